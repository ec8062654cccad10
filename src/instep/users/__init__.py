"""Profiles: people of the whole installation, edited, made, deleted and restored on both sides."""
