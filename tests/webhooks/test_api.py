"""The door for Clerk's webhooks: every answer says whose fault it is, and none of them is a 500."""

import json
from collections.abc import Iterable
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from instep.clerk.webhook_signature import WebhookVerifier
from instep.core.db import Database
from instep.domain.events import VerifiedDelivery
from instep.webhooks.receiver import MAX_BODY_SIZE, WEBHOOK_PATHS, WebhookEndpoint, WebhookReceiver
from tests.support.clocks import START, Ticking
from tests.support.deliveries import body, kept, user_body
from tests.support.faults import failing
from tests.support.svix import OTHER, SECRET, signed
from tests.support.world import Firm

pytestmark = pytest.mark.anyio

Headers = dict[str, str]


class Door:
    """The door alone, spoken to as a server does."""

    def __init__(self, db: Database) -> None:
        self.app = WebhookEndpoint(
            WebhookReceiver(db=db, verifier=WebhookVerifier([SECRET]), clock=Ticking(), wake=lambda: None)
        )

    async def post(
        self, content: bytes | Iterable[bytes], headers: Headers, *, method: str = "POST", has_length: bool = True
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of an answer; `content` in several parts has no length, unless it is claimed."""
        parts = [content] if isinstance(content, bytes) else list(content)
        sent = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        if isinstance(content, bytes) and has_length:
            sent.append((b"content-length", str(len(content)).encode()))
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        waiting = iter([*messages, {"type": "http.request", "body": b"", "more_body": False}])
        answered: list[Any] = []
        self.taken = 0

        async def receive() -> Any:
            self.taken += 1
            return next(waiting)

        async def send(message: Any) -> None:
            answered.append(message)

        scope = {"type": "http", "method": method, "path": "/webhooks/clerk", "headers": sent}
        await self.app(scope, receive, send)
        start, end = answered
        got = {name.decode(): value.decode() for name, value in start["headers"]}
        assert int(got["content-length"]) == len(end["body"])
        return start["status"], got, json.loads(end["body"])


@pytest.fixture
def door(db: Database) -> Door:
    return Door(db)


def good(content: bytes | None = None, **more: Any) -> tuple[bytes, Headers]:
    content = content or user_body(1)
    return content, signed(content, at=START, **more)


async def test_a_delivery_is_accepted_once_it_is_kept(db: Database, door: Door) -> None:
    status, headers, said = await door.post(*good(id="msg_1"))
    assert (status, said) == (202, {"received": "msg_1"})
    assert headers["content-type"] == "application/json"
    assert set(kept(db)) == {"msg_1"}


async def test_an_event_that_nobody_knows_is_accepted_and_kept(db: Database, door: Door) -> None:
    status, _, _ = await door.post(*good(body("event.of.tomorrow", {"a": 1})))
    assert status == 202
    assert [row["type"] for row in kept(db).values()] == ["event.of.tomorrow"]


async def test_a_body_in_many_parts_is_one_body(db: Database, door: Door) -> None:
    content, headers = good()
    status, _, _ = await door.post([content[:7], b"", content[7:]], headers)
    assert status == 202


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_deliveries_are_sent_by_post_and_nothing_else(door: Door, method: str) -> None:
    status, headers, _ = await door.post(b"", {}, method=method)
    assert (status, headers["allow"]) == (405, "POST")


async def test_a_bad_signature_is_401_and_says_no_secret(door: Door) -> None:
    status, _, said = await door.post(*good(secret=OTHER))
    assert status == 401
    assert SECRET.removeprefix("whsec_") not in json.dumps(said)


async def test_a_stale_one_is_401(door: Door) -> None:
    content = user_body(1)
    status, _, said = await door.post(content, signed(content, at=START - 10 * 60_000))
    assert status == 401
    assert "5 minutes" in said["error"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"type":1,"data":{}}'])
async def test_a_malformed_one_is_400_even_if_signed(door: Door, content: bytes) -> None:
    status, _, _ = await door.post(content, signed(content, at=START))
    assert status == 400


@pytest.mark.parametrize("missing", ["svix-id", "svix-timestamp", "svix-signature"])
async def test_without_its_headers_it_is_400(door: Door, missing: str) -> None:
    content, headers = good()
    del headers[missing]
    assert (await door.post(content, headers))[0] == 400


async def test_one_of_another_clerk_instance_is_kept_and_answered_like_any_other(db: Database, door: Door) -> None:
    await door.post(*good(id="msg_1"))
    foreign = user_body(1).replace(b'"ins_1"', b'"ins_2"')
    status, _, _ = await door.post(*good(foreign, id="msg_2"))
    assert status == 202
    assert set(kept(db)) == {"msg_1", "msg_2"}


async def test_a_body_of_one_mebibyte_is_taken(door: Door) -> None:
    content = body("user.updated", {"pad": ""})
    content = content.replace(b'"pad": ""', b'"pad": "' + b"x" * (MAX_BODY_SIZE - len(content)) + b'"')
    assert len(content) == MAX_BODY_SIZE
    assert (await door.post(*good(content)))[0] == 202


async def test_a_larger_one_is_413_before_it_is_read(db: Database, door: Door) -> None:
    content = b"x" * (MAX_BODY_SIZE + 1)
    status, _, _ = await door.post(content, signed(content, at=START))
    assert (status, door.taken) == (413, 0)
    assert kept(db) == {}


@pytest.mark.parametrize("length", [None, "5", "-1", "many", "0", "1e3"])
async def test_a_larger_one_is_413_also_in_parts_and_whatever_length_it_claims(door: Door, length: str | None) -> None:
    parts = [b"x" * 65_536] * 1_000
    claimed = {} if length is None else {"content-length": length}
    status, _, _ = await door.post(parts, signed(b"x", at=START) | claimed)
    assert status == 413
    assert door.taken == 17, "it stops reading at the limit"


@pytest.mark.parametrize("at", ["before_cursor_execute", "commit"])
async def test_without_the_database_it_is_503_so_that_it_is_sent_again(db: Database, door: Door, at: str) -> None:
    await door.post(*good())
    with failing(db, at):
        status, headers, _ = await door.post(*good(id="msg_2"))
    assert status == 503
    assert int(headers["retry-after"]) > 0
    assert "msg_2" not in kept(db)
    assert (await door.post(*good(id="msg_2")))[0] == 202


class Broken:
    """Fails in a way that nobody thought of."""

    def open(self, headers: Any, body: bytes, *, now: int) -> VerifiedDelivery:
        raise ZeroDivisionError("a secret detail")


async def test_a_failure_that_nobody_thought_of_is_503_too_and_tells_nothing(db: Database, door: Door) -> None:
    door.app = WebhookEndpoint(WebhookReceiver(db=db, verifier=Broken(), clock=Ticking(), wake=lambda: None))
    status, _, said = await door.post(*good())
    assert status == 503
    assert "secret detail" not in json.dumps(said)


async def test_a_delivery_cut_off_in_the_middle_is_neither_answered_nor_kept(db: Database) -> None:
    door = Door(db)
    content, headers = good()
    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    for cut in (0, 10):
        told = iter([{"type": "http.request", "body": content[:cut], "more_body": True}, {"type": "http.disconnect"}])

        async def receive(told: Any = told) -> Any:
            return next(told)

        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        await door.app({"type": "http", "method": "POST", "headers": sent}, receive, send)
    assert answers == []
    assert kept(db) == {}


header_values = st.text(st.characters(max_codepoint=255), max_size=60)
names = st.sampled_from(
    [
        *(f"{prefix}-{name}" for prefix in ("svix", "webhook") for name in ("id", "timestamp", "signature")),
        *("content-length", "content-type", "transfer-encoding", "x-anything"),
    ]
)


@pytest.fixture(scope="module")
def lasting_db(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Any) -> Iterable[Database]:
    """One database for all examples of a property."""
    path = tmp_path_factory.mktemp("door") / "instep.db"
    path.write_bytes(sqlite_template.read_bytes())
    db = Database(f"sqlite:///{path}")
    yield db
    db.close()


@example(content=b"{}", garbage={"content-length": "\u00b2"}, is_signed=False, method="POST", is_in_parts=False)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300) | st.just(user_body(1)),
    garbage=st.dictionaries(names, header_values, max_size=6),
    is_signed=st.booleans(),
    method=st.sampled_from(["POST"] * 5 + ["GET", "\x00"]),
    is_in_parts=st.booleans(),
)
def test_whatever_is_sent_there_is_an_answer_and_it_is_no_500(
    lasting_db: Database, content: bytes, garbage: Headers, is_signed: bool, method: str, is_in_parts: bool
) -> None:
    headers = (signed(content, at=START) if is_signed else {}) | garbage

    async def run() -> int:
        sent = [content[:5], content[5:]] if is_in_parts else content
        return (await Door(lasting_db).post(sent, headers, method=method, has_length="content-length" not in headers))[
            0
        ]

    assert anyio.run(run) in {202, 400, 401, 403, 405, 413}


@pytest.fixture
async def through_the_app(sqlite_firm: Firm) -> httpx2.AsyncClient:
    return sqlite_firm.api(key=None)


@pytest.mark.parametrize("path", sorted(WEBHOOK_PATHS))
async def test_it_stands_at_both_addresses(through_the_app: httpx2.AsyncClient, path: str) -> None:
    content = user_body(1)
    headers = signed(content, at=START)
    assert (await through_the_app.post(path, content=content, headers=headers)).status_code == 202
    assert (await through_the_app.get(path)).status_code == 405
