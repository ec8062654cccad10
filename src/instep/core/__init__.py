"""Tools without product knowledge: database, clock, errors, HTTP, templates."""
