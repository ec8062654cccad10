"""Assemble the emulator and serve it."""
