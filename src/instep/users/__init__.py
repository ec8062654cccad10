"""Users of the whole installation: edit, create, delete, ban and restore them in Clerk and in the database."""
