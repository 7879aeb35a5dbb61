"""The control plane over all hosts."""
