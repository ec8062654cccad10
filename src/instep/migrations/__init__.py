"""Alembic migrations, run by instep.kit.schema."""
