"""The database of the engine: its tables, one module for each noun, and how they are reached."""
