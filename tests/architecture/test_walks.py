"""The walks that a newcomer reads stay short: files of instep that are entered from the request to its answer.

Counted with a profiler hook; `core` has no product words and does not count, nor do hooks of an application. The
aim is 14, 12, 12 and 10 (docs/architecture.md); the limits here keep the walks from growing until that is reached.
"""

import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import instep
from tests.support.town import SEED
from tests.support.world import Firm, make_firm

pytestmark = pytest.mark.anyio
SOURCE = str(Path(instep.__file__).parent) + "/"
LIMITS = {"webhook": 20, "resend": 23, "check": 20, "list": 21}


class Walk:
    """The files below src/instep in which a Python frame was entered."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.is_counting = False

    def note(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self.is_counting and event == "call":
            path = frame.f_code.co_filename
            if path.startswith(SOURCE) and not path.startswith(f"{SOURCE}core/"):
                self.files.add(path.removeprefix(SOURCE))

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.is_counting = True
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)
            self.is_counting = False


@pytest.fixture
async def walk() -> AsyncIterator[Walk]:
    """A walk that sees the threads of the database too, which begin after it."""
    walk = Walk()
    threading.setprofile(walk.note)
    yield walk
    threading.setprofile(None)


@pytest.fixture
async def firm(walk: Walk, sqlite_migrated_url: str) -> AsyncIterator[Firm]:
    firm = make_firm(sqlite_migrated_url)
    firm.emulator.seed(SEED)
    await firm.settle()
    yield firm
    await firm.close()


def judge(walk: Walk, name: str) -> None:
    assert len(walk.files) > 3, "the profiler saw nothing"
    assert len(walk.files) <= LIMITS[name], f"{len(walk.files)} files: {sorted(walk.files)}"


async def test_a_webhook(firm: Firm, walk: Walk) -> None:
    """From the ASGI entry to the commit of its processing."""
    clerk = firm.clerk()
    user = firm.user_id("omar@example.com")
    assert (await clerk.patch(f"/v1/users/{user}", json={"first_name": "Omar Karim"})).is_success
    with walk.counted():
        await firm.emulator.webhooks.drain()
        assert await firm.services.delivery_processor.run_once() == 1
    judge(walk, "webhook")


async def test_a_resend(firm: Firm, walk: Walk) -> None:
    """From the ASGI entry of the REST API to the answer."""
    api = firm.api()
    people = (await api.get("/v1/organizations/northwind/people")).json()["data"]
    invitation = next(row["invitation"]["id"] for row in people if row["kind"] == "invitation")
    with walk.counted():
        answer = await api.post(f"/v1/organizations/northwind/invitations/{invitation}/resend")
    assert answer.is_success, answer.text
    judge(walk, "resend")


async def test_a_sync_check(firm: Firm, walk: Walk) -> None:
    """From `SyncService.check` to its result."""
    with walk.counted():
        run = await firm.services.sync_services.sync.check(actor="test")
    assert run.differences == 0
    judge(walk, "check")


async def test_the_list(firm: Firm, walk: Walk) -> None:
    """From the ASGI entry of the REST API to the answer."""
    api = firm.api()
    with walk.counted():
        answer = await api.get("/v1/organizations/northwind/people")
    assert answer.is_success
    judge(walk, "list")
