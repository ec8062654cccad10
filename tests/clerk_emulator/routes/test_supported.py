"""SUPPORTED.md."""

from pathlib import Path

import clerk_emulator
from clerk_emulator.routes.handlers import HANDLERS
from clerk_emulator.routes.operations import OPERATIONS
from clerk_emulator.routes.supported import PARTLY, text


def test_the_page_is_current() -> None:
    page = Path(clerk_emulator.__file__).with_name("SUPPORTED.md")
    assert page.read_text(encoding="utf-8") == text(), (
        "run `clerk-emulator supported > src/clerk_emulator/SUPPORTED.md`"
    )


def test_every_operation_is_on_it_once() -> None:
    assert all(text().count(f"| `{operation.id}` |") == 1 for operation in OPERATIONS)
    assert not set(PARTLY) - set(HANDLERS)
