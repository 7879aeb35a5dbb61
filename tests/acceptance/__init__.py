"""The scripts and the command, used as a person uses them."""
