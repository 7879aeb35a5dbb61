"""Adapters of ours: programs that make, connect and remove volumes of one kind of storage."""
