"""An emulator for one test, in process or on a port, without a fixture: `with emulated() as clerk: ...`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx2

from clerk_emulator.pytest_plugin import Clerk
from clerk_emulator.wire.keyring import Keyring


@cache
def private_key() -> str:
    """Return one key pair for all tests: making one takes longer than most tests."""
    return Keyring("ins_test").private_pem


@contextmanager
def emulated(**options: Any) -> Iterator[Clerk]:
    """Return an emulator; `clerk.url` serves it on a port of its own."""
    clerk = Clerk(private_key(), options)
    try:
        yield clerk
    finally:
        clerk.close()


def asking(clerk: Clerk, **headers: str) -> httpx2.AsyncClient:
    """Return a client of an emulator in process, without a key and without cookies."""
    return httpx2.AsyncClient(transport=clerk.transport, base_url=clerk.emulator.site.url, headers=headers)


def asking_with_key(clerk: Clerk, **headers: str) -> httpx2.AsyncClient:
    """Return a client of the Backend API of an emulator in process."""
    return asking(clerk, **clerk.headers, **headers)
