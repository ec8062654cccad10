"""The page SUPPORTED.md: both APIs."""

from clerk_emulator.frontend import supported as frontend
from clerk_emulator.routes import supported as backend


def text() -> str:
    """Return the page."""
    return f"{backend.text()}\n{frontend.text()}"
