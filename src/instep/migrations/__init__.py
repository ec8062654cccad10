"""Alembic migrations, run by instep.core.schema_migrations."""
