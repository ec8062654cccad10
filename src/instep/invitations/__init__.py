"""Invitations to the application as a whole."""
