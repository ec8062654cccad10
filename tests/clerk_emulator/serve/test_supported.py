"""SUPPORTED.md."""

from pathlib import Path

import clerk_emulator
from clerk_emulator.serve.supported_page import render_page


def test_supported_md_is_current() -> None:
    page = Path(clerk_emulator.__file__).with_name("SUPPORTED.md")
    assert page.read_text(encoding="utf-8") == render_page(), (
        "run `clerk-emulator supported > src/clerk_emulator/SUPPORTED.md`"
    )
