"""A stand-in for Clerk on one machine: Backend API, signed webhooks, sign-in, faults."""

from clerk_emulator.emulator import Emulator

__all__ = ["Emulator"]
