"""Tools without product words: clock, errors, database, pages, log."""
