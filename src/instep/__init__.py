"""Keep Clerk and an application's database in sync."""

__version__ = "0.1.0"
