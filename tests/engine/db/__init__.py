"""The database of the engine, over SQLite and over PostgreSQL."""
