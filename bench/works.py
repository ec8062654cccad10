"""The works that are measured, each on a real `instep serve`: taking deliveries in, working a backlog, listing."""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bench.databases import Database
from bench.deliveries import SECRET, messages, organization_id
from bench.load import Result, drive
from bench.people import SYLLABLES, email_of, name_of
from bench.processes import cpu_seconds, free_port, memory_mb, program, running
from instep.core.clock import DAY, now
from instep.domain.events import VerifiedDelivery
from instep.members.listing import encode_cursor
from instep.members.models import MemberCursor
from instep.webhooks import repository

CONNECTIONS = 32
KEY = "an-admin-key-for-benches"
PATH = "/webhooks/clerk"
PAGES_OF_A_WALK = 20
MOST_PER_SECOND = 12_000
_NEXT = re.compile(rb'"next_cursor":"(\w+)"')


@dataclass(frozen=True)
class Serving:
    """A running `instep serve`."""

    pid: int
    port: int


@contextmanager
def serving(database: Database, folder: Path, clerk_port: int = 9) -> Iterator[Serving]:
    """`instep serve` on this database; Clerk is what listens on `clerk_port`."""
    port = free_port()
    env = {
        "INSTEP_DATABASE_URL": database.url,
        "INSTEP_PORT": str(port),
        "INSTEP_ADMIN_KEY": KEY,
        "INSTEP_RATE_LIMIT": "off",
        "CLERK_SECRET_KEY": "sk_test_bench",
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        "CLERK_API_URL": f"http://127.0.0.1:{clerk_port}",
    }
    ready = f"http://127.0.0.1:{port}/health/ready"
    with running([program("instep"), "serve"], env=env, folder=folder, ready=ready) as pid:
        yield Serving(pid, port)


@dataclass(frozen=True)
class Ingested:
    """`applied` per second counts until the last delivery is worked; CPU is in microseconds for one delivery."""

    result: Result
    applied: float
    server_cpu: float
    database_cpu: float
    memory_idle: float
    memory_after: float


def ingest(database: Database, folder: Path, *, seconds: float, existing: int) -> Ingested:
    """Deliveries over 32 connections for so long; then until all are worked."""
    with serving(database, folder) as server:
        idle = memory_mb(server.pid)
        warm = _send(server, existing, seed=1, seconds=max(seconds / 4, 1.0), most=CONNECTIONS * 30)
        database.wait_until_settled()
        most = int(warm.per_second * seconds * 2) + 1_000
        before, database_before = cpu_seconds(server.pid), database.cpu_seconds()
        result = _send(server, existing, seed=2, seconds=seconds, most=min(most, int(MOST_PER_SECOND * seconds)))
        working = _clocked(database.wait_until_settled)
        count = len(result.latencies)
        return Ingested(
            result,
            count / (result.seconds + working),
            (cpu_seconds(server.pid) - before) / count * 1e6,
            (database.cpu_seconds() - database_before) / count * 1e6,
            idle,
            memory_mb(server.pid),
        )


def _clocked(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _send(server: Serving, existing: int, *, seed: int, seconds: float, most: int) -> Result:
    requests = iter([it.request(PATH) for it in messages(most, existing=existing, organizations=1_000, seed=seed)])

    def following(_answer: bytes | None) -> bytes | None:
        return next(requests, None)

    return drive(server.port, [following] * CONNECTIONS, seconds=seconds).checked()


def drain(database: Database, folder: Path, *, deliveries: int, existing: int) -> float:
    """Deliveries a second that are worked when `instep serve` finds a backlog: kept before it starts, by nobody else.

    Counted from the database: all but the last batch, between the times at which the first and the last were settled.
    """
    at = now()
    backlog = messages(deliveries, existing=existing, organizations=1_000, seed=5)
    kept = [
        VerifiedDelivery(id=it.id, type="user.updated", instance_id=None, body=it.body, received_at=at + DAY)
        for it in backlog
    ]
    for start in range(0, len(kept), 1_000):
        database.db.write_sync(repository.insert_deliveries, kept[start : start + 1_000])
    since = database.scalar("SELECT coalesce(max(settled_at), 0) FROM instep_deliveries")
    with serving(database, folder):
        database.execute(f"UPDATE instep_deliveries SET due_at = {at} WHERE due_at IS NOT NULL")
        database.wait_until_settled()
    ours = f"FROM instep_deliveries WHERE settled_at > {since}"
    first, last = database.scalar(f"SELECT min(settled_at) {ours}"), database.scalar(f"SELECT max(settled_at) {ours}")
    before_last = database.scalar(f"SELECT count(*) {ours} AND settled_at < {last}")
    return before_last / ((last - first) / 1000)


def listing(server: Serving, *, members: int, seconds: float, is_active_only: bool) -> Result:
    """Pages of 25, one at a time: walks of 20 pages, each from a random place of the list."""
    dice, left = random.Random(members), 0
    status = "&status=active" if is_active_only else ""

    def page(cursor: str) -> bytes:
        path = f"/v1/organizations/{organization_id(0)}/people?limit=25{status}"
        path += f"&cursor={cursor}" if cursor else ""
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()

    def following(answer: bytes | None) -> bytes:
        nonlocal left
        if not is_active_only:
            return page("")  # a page after a cursor shows members alone, and asks Clerk nothing
        found = _NEXT.search(answer or b"")
        if left == 0 or found is None:
            left = PAGES_OF_A_WALK
            first, last = name_of(dice.randrange(members), members)
            return page(encode_cursor(MemberCursor(member=("active", f"{first} {last}", ""))))
        left -= 1
        return page(found[1].decode())

    drive(server.port, [following], seconds=min(1.0, seconds / 4)).checked()
    return drive(server.port, [following], seconds=seconds).checked()


SEARCHERS = 8
_WORDS = ("first", "last", "both", "beginning", "middle", "address", "letters", "nobody")
_SHARES = (20, 20, 15, 20, 5, 10, 5, 5)


def searching(server: Serving, *, members: int, seconds: float, what: str) -> dict[str, Result]:
    """What readers look for, over eight connections, among `members` or `users`: names as frequent as they are, their
    beginnings, middles, addresses, two letters, and nobody. Under each kind of words the answers to it, `all` to all.
    """
    path = (
        f"/v1/organizations/{organization_id(0)}/people?limit=25&status=active" if what == "members" else "/v1/users?"
    )
    found: dict[str, Result] = {}
    drive(server.port, [_searcher(path, members, seed, {}) for seed in range(SEARCHERS)], seconds=seconds / 8).checked()
    lines = [_searcher(path, members, 100 + seed, found) for seed in range(SEARCHERS)]
    everything = drive(server.port, lines, seconds=seconds).checked()
    return {"all": everything, **found}


def _searcher(path: str, members: int, seed: int, found: dict[str, Result]) -> Callable[[bytes | None], bytes | None]:
    dice, asked = random.Random(seed), [("", 0.0)]

    def following(answer: bytes | None) -> bytes:
        kind, sent_at = asked[0]
        if answer is not None:
            found.setdefault(kind, Result()).latencies.append(time.perf_counter() - sent_at)
        kind = dice.choices(_WORDS, _SHARES)[0]
        asked[0] = (kind, time.perf_counter())
        query = quote(_words(kind, dice, members))
        head = f"GET {path}&query={query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        return head.encode()

    return following


def _words(kind: str, dice: random.Random, members: int) -> str:
    """What somebody types who looks for a person."""
    i = dice.randrange(members)
    first, last = name_of(i, members)
    return {
        "first": first,
        "last": last,
        "both": f"{first} {last}",
        "beginning": dice.choice((first[:3], last[:3], last[:4])),
        "middle": f"{first[-2:]}.{last[:2]}",
        "address": email_of(i, members),
        "letters": dice.choice((first[:2], last[:2], last[:1])),
        "nobody": "".join(dice.choices(SYLLABLES, k=5)) + "xq",
    }[kind]
