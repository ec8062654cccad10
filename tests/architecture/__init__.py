"""Promises about the code itself: floors, owners of outside packages, sizes, cycles, words."""
