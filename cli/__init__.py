"""The `leasehold` command."""

VERSION = "0.1.0"  # as in pyproject.toml; here too, because reading it from the metadata is slow
