"""The database of the engine: one table, one module."""
