"""Alembic's tree: how the tables became what engine/db/schema.py says. There is no way back."""
