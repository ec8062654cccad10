"""What is said of the Backend API."""

from clerk_emulator.routes.handlers import HANDLERS
from clerk_emulator.routes.operations import OPERATIONS
from clerk_emulator.routes.supported import PARTLY, text


def test_every_operation_is_on_it_once() -> None:
    assert all(text().count(f"| `{operation.id}` |") == 1 for operation in OPERATIONS)
    assert not set(PARTLY) - set(HANDLERS)
