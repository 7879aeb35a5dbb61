"""The verbs of the agent: each is decode, one call, encode. docs/verbs.md is made from here."""
