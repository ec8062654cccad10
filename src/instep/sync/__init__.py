"""Everything at once: what differs between Clerk and the mirror, a plan to mend it, and the first sync."""
