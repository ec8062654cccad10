"""Loud skips: what a machine lacks is said with the way to get it, and is a failure where CI is set."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

LOUD = "NOT TESTED"
CLERK_FILES = Path(__file__).parents[2].parent / "shared" / "clerk"


def need(what: str, how: str) -> NoReturn:
    """Stop this test because the machine lacks `what`; `how` tells a stranger the way to get it."""
    message = f"{LOUD}: this machine lacks {what}. To get it: {how}"
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(message)
    pytest.fail(f"{message} (CI is set: nothing may be left untested)", pytrace=False)


def clerk_file(name: str) -> Path:
    """A file of Clerk's own, such as `bapi-2026-05-12.yml`; they are in no checkout, so even CI may skip."""
    path = CLERK_FILES / name
    if not path.exists():
        pytest.skip(f"Clerk's own file {name} is not here (it belongs in ../shared/clerk, outside the checkout)")
    return path
