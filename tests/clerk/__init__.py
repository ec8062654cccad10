"""Tests of the adapter to Clerk."""
