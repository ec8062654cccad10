"""A stand-in for Clerk on one machine: `from clerk_emulator import Emulator`.

The name is looked up when it is asked for (its type is in `__init__.pyi`), so that the rooms of this house don't
all depend on the roof.
"""

from importlib import import_module

__all__ = ["Emulator"]


def __getattr__(name: str) -> object:
    """Return `Emulator`."""
    if name == "Emulator":
        return import_module("clerk_emulator.serve.emulator").Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
