"""Keep first, answer, then work: nobody is told that a delivery is safe before it is."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from instep.clerk.webhook_signature import MalformedWebhookError, WebhookSignatureError, WebhookVerifier
from instep.core.db import Database
from instep.core.errors import TemporaryError
from instep.domain.events import VerifiedDelivery
from instep.mirror.instance_binding import find_bound_instance
from instep.webhooks.receiver import WebhookReceiver
from tests.support.clocks import START, Ticking
from tests.support.deliveries import kept, user_body
from tests.support.faults import failing
from tests.support.svix import OTHER, SECRET, signed

pytestmark = pytest.mark.anyio


class Woken:
    """Counts how often the worker was woken."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def receiver(db: Database, woken: Woken) -> WebhookReceiver:
    return make_receiver(db, woken)


def make_receiver(db: Database, wake: Any = lambda: None, *secrets: str) -> WebhookReceiver:
    return WebhookReceiver(db=db, verifier=WebhookVerifier(secrets or (SECRET,)), clock=Ticking(), wake=wake)


async def receive(
    receiver: WebhookReceiver, id: str, body: bytes | None = None, *, secret: str = SECRET
) -> VerifiedDelivery:
    body = body or user_body(1)
    return await receiver.receive(signed(body, at=START, id=id, secret=secret), body)


class Gate:
    """Counts commits, and while it is shut holds each one back."""

    def __init__(self, db: Database) -> None:
        self.commits = 0
        self._is_reached, self._is_open = threading.Event(), threading.Event()
        self._is_open.set()
        sa.event.listen(db.engine, "commit", self._commit)

    def _commit(self, _conn: sa.Connection) -> None:
        self.commits += 1
        self._is_reached.set()
        assert self._is_open.wait(20), "nobody opened the gate"

    def shut(self) -> None:
        self._is_open.clear()
        self._is_reached.clear()
        self.commits = 0

    async def reached(self) -> None:
        """Wait until a commit stands before the gate."""
        assert await asyncio.to_thread(self._is_reached.wait, 20)

    def open(self) -> None:
        self._is_open.set()


@pytest.fixture
def gate(db: Database) -> Iterator[Gate]:
    gate = Gate(db)
    yield gate
    gate.open()


async def test_a_delivery_is_kept_as_it_came_and_the_worker_is_woken(
    db: Database, receiver: WebhookReceiver, woken: Woken
) -> None:
    body = user_body(1, first_name="Zoë")
    got = await receive(receiver, "msg_1", body)
    (row,) = kept(db).values()
    assert (row["id"], row["type"], row["body"]) == ("msg_1", "user.updated", body.decode())
    assert (row["state"], row["attempts"], row["due_at"]) == ("new", 0, got.received_at)
    assert woken.times == 1


async def test_a_delivery_is_kept_once_however_often_it_comes_and_the_first_copy_stays(
    db: Database, receiver: WebhookReceiver
) -> None:
    first = await receive(receiver, "msg_1", user_body(1))
    await receive(receiver, "msg_1", user_body(2))
    await asyncio.gather(*[receive(receiver, "msg_1") for _ in range(5)])
    (row,) = kept(db).values()
    assert row["body"] == first.body.decode()
    assert row["received_at"] == first.received_at


async def test_a_delivery_that_was_worked_already_is_not_opened_again_by_a_copy(
    db: Database, receiver: WebhookReceiver
) -> None:
    await receive(receiver, "msg_1")
    db.write_sync(lambda conn: conn.execute(sa.text("UPDATE instep_deliveries SET state = 'settled', due_at = NULL")))
    await receive(receiver, "msg_1")
    assert kept(db)["msg_1"]["due_at"] is None


async def test_nobody_is_answered_before_the_commit(db: Database, receiver: WebhookReceiver, gate: Gate) -> None:
    await receive(receiver, "msg_0")
    gate.shut()
    waiting = asyncio.create_task(receive(receiver, "msg_1"))
    await gate.reached()
    assert not waiting.done()
    assert "msg_1" not in kept(db)
    gate.open()
    await waiting
    assert "msg_1" in kept(db)


async def test_those_who_come_during_a_commit_share_the_next_one(
    db: Database, receiver: WebhookReceiver, gate: Gate
) -> None:
    await receive(receiver, "msg_0")
    gate.shut()
    first = asyncio.create_task(receive(receiver, "msg_1"))
    await gate.reached()
    others = [asyncio.create_task(receive(receiver, f"msg_{n}")) for n in range(2, 52)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(first, *others)
    assert gate.commits == 2
    assert len(kept(db)) == 52


async def test_a_write_that_fails_fails_everyone_who_shared_it_and_nobody_after(
    db: Database, receiver: WebhookReceiver
) -> None:
    await receive(receiver, "msg_0")
    with failing(db, only="instep_deliveries"):
        answers = await asyncio.gather(*[receive(receiver, f"msg_{n}") for n in range(1, 6)], return_exceptions=True)
    assert [isinstance(it, TemporaryError) for it in answers] == [True] * 5
    assert set(kept(db)) == {"msg_0"}
    await receive(receiver, "msg_1")
    assert set(kept(db)) == {"msg_0", "msg_1"}


async def test_a_commit_that_fails_is_no_yes(db: Database, receiver: WebhookReceiver) -> None:
    await receive(receiver, "msg_0")
    with failing(db, "commit"), pytest.raises(TemporaryError):
        await receive(receiver, "msg_1")
    assert set(kept(db)) == {"msg_0"}


async def test_somebody_who_hangs_up_takes_nobody_along(db: Database, receiver: WebhookReceiver, gate: Gate) -> None:
    await receive(receiver, "msg_0")
    gate.shut()
    first = asyncio.create_task(receive(receiver, "msg_1"))
    await gate.reached()
    impatient, patient = (asyncio.create_task(receive(receiver, id)) for id in ("msg_2", "msg_3"))
    await asyncio.sleep(0)
    impatient.cancel()
    gate.open()
    await asyncio.gather(first, patient)
    assert {"msg_1", "msg_3"} <= set(kept(db))
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_whatever_instance_it_comes_from_it_is_kept_and_sets_nothing(
    db: Database, receiver: WebhookReceiver
) -> None:
    foreign = user_body(1).replace(b'"ins_1"', b'"ins_2"')
    await asyncio.gather(receive(receiver, "msg_1", foreign), receive(receiver, "msg_2"))
    assert set(kept(db)) == {"msg_1", "msg_2"}
    assert db.read_sync(find_bound_instance) is None


async def test_a_delivery_that_names_no_instance_is_taken(db: Database, receiver: WebhookReceiver) -> None:
    await receive(receiver, "msg_1", user_body(1).replace(b', "instance_id": "ins_1"', b""))
    assert set(kept(db)) == {"msg_1"}


async def test_with_two_secrets_either_is_good(db: Database) -> None:
    receiver = make_receiver(db, lambda: None, SECRET, OTHER)
    await receive(receiver, "msg_1", secret=SECRET)
    await receive(receiver, "msg_2", secret=OTHER)
    assert set(kept(db)) == {"msg_1", "msg_2"}


async def test_what_is_refused_is_not_kept(db: Database, receiver: WebhookReceiver) -> None:
    foreign = user_body(1).replace(b'"ins_1"', b'"ins_2"')
    with pytest.raises(WebhookSignatureError):
        await receive(receiver, "msg_1", foreign, secret=OTHER)
    with pytest.raises(MalformedWebhookError):
        await receiver.receive({}, foreign)
    await receive(receiver, "msg_2")
    assert set(kept(db)) == {"msg_2"}
