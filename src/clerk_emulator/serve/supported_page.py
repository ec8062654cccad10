"""The page SUPPORTED.md: emulated operations of both APIs."""

from clerk_emulator.backend_api import supported_operations
from clerk_emulator.frontend_api import supported_operations as frontend_api_supported_operations


def render_page() -> str:
    """Return the page."""
    return f"{supported_operations.render_section()}\n{frontend_api_supported_operations.render_section()}"
