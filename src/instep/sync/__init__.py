"""Sync: compare Clerk with the mirror, plan and apply repairs, and import everything for the first time."""
