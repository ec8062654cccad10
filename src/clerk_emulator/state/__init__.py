"""Clerk's data and its rules: pure, in memory, without HTTP."""
