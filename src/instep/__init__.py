"""instep keeps Clerk and an application's own database in step."""
