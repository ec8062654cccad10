"""instep keeps Clerk and an application's own database in step."""

__version__ = "0.1.0"
