"""Tests of sign-in and access."""
