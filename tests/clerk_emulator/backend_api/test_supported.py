"""The Backend API section of SUPPORTED.md."""

from clerk_emulator.backend_api.handlers import HANDLERS
from clerk_emulator.backend_api.operations import OPERATIONS
from clerk_emulator.backend_api.supported_operations import PARTIAL_SUPPORT, render_section


def test_every_backend_operation_is_listed_once() -> None:
    assert all(render_section().count(f"| `{operation.id}` |") == 1 for operation in OPERATIONS)
    assert not set(PARTIAL_SUPPORT) - set(HANDLERS)
