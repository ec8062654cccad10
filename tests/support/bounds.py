"""A firm whose Clerk says whatever it is given: fed with hostile JSON, and then looked at from every side.

`Probe.feed` takes objects and events in (signed webhooks, the sync, live reads); `Probe.look` reads everything back
through the API, the exports and the console, and gives a `Fault` for each answer that breaks a promise. Used by the
property test and, without a test framework, by an attack on a running build.
"""

import asyncio
import csv
import io
import json
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import sqlalchemy as sa
import structlog

from instep.app.asgi import InstepAsgiApp, make_app
from instep.app.config import make_settings
from instep.app.container import Services, make_services
from instep.clerk.client import ClerkClient
from instep.core.db import Conn, create_engine, metadata
from instep.core.schema_migrations import migrate_schema
from tests.support.clocks import Ticking
from tests.support.hostile import INSTANCE, ORGANIZATION, SHAPES, Made, Seeded, make_event, make_object, write
from tests.support.hostile_requests import Asked, make_request
from tests.support.svix import SECRET, signed
from tests.support.world import KEY, OURS

HOME = f"/v1/organizations/{ORGANIZATION}"
MATES = ("mate1", "mate2", "mate3")
"""Good neighbours: whatever else comes, these are to be kept and shown."""


@dataclass(frozen=True)
class Fault:
    """A promise that was broken: where, how, and by which inputs."""

    where: str
    what: str
    inputs: tuple[str, ...] = ()


@dataclass
class SayingClerk:
    """Clerk's Backend API as far as instep reads it: it answers with the JSON that it was given."""

    rows: dict[str, list[bytes]] = field(default_factory=lambda: {kind: [] for kind in SHAPES})
    wrote: list[tuple[str, bytes]] = field(default_factory=list)

    def put(self, kind: str, value: Any) -> None:
        """Have this thing as well."""
        self.rows[kind].append(write(value).encode())

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v1/")
        if request.method != "GET":
            self.wrote.append((f"{request.method} {path}", request.content))
            return self._written(path)
        params = request.url.params
        return self._read(
            path, params.get_list("user_id"), int(params.get("limit", "10")), int(params.get("offset", 0))
        )

    def _read(self, path: str, users: Sequence[str], limit: int, offset: int) -> httpx2.Response:
        last = path.rsplit("/", 1)[-1]
        if path == "instance":
            return httpx2.Response(200, json={"id": INSTANCE})
        if path == "users/count":
            return httpx2.Response(200, json={"total_count": len(self.rows["user"])})
        if path in ("users", "sessions", "invitations"):
            rows = self.rows[path.removesuffix("s")]
            wanted = [it for it in rows if not users or _has_id(it, users) or path == "sessions"]
            return _json(b"[" + b", ".join(wanted[offset : offset + limit]) + b"]")
        lists = {"organization_memberships": "membership", "memberships": "membership", "invitations": "invitation"}
        lists |= {"organizations": "organization", "organization_roles": "role"}
        if kind := lists.get(last):
            rows = self.rows[kind]
            rows = [it for it in rows if not users or any(f'"{user}"'.encode() in it for user in users)]
            page = b", ".join(rows[offset : offset + limit])
            return _json(b'{"data": [' + page + b'], "total_count": ' + str(len(rows)).encode() + b"}")
        kind = path.split("/")[0].removesuffix("s")
        found = [it for it in self.rows.get(kind, ()) if _has_id(it, [last])]
        return _json(found[0]) if found else _not_found()

    def _written(self, path: str) -> httpx2.Response:
        if path.startswith("users"):
            return httpx2.Response(200, json=SHAPES["user"].good(MATES[0]))
        if path.endswith("/invitations"):
            return httpx2.Response(200, json=SHAPES["invitation"].good("new"))
        return _not_found()


def _has_id(row: bytes, ids: Sequence[str]) -> bool:
    return any(f'"id": "{id}"'.encode() in row for id in ids)


def _json(body: bytes) -> httpx2.Response:
    return httpx2.Response(200, content=body, headers={"content-type": "application/json"})


def _not_found() -> httpx2.Response:
    return httpx2.Response(404, json={"errors": [{"code": "resource_not_found", "message": "not found"}]})


@dataclass
class Probe:
    """instep on one database, and its Clerk. `close` it."""

    services: Services
    app: InstepAsgiApp
    clock: Ticking
    clerk: SayingClerk
    api: httpx2.AsyncClient
    console: httpx2.AsyncClient
    faults: list[Fault] = field(default_factory=list)
    inputs: tuple[str, ...] = ()
    sent: dict[str, str] = field(default_factory=dict)
    owed: set[str] = field(default_factory=set)

    async def feed(self, made: Sequence[Made], events: Sequence[Made]) -> None:
        """Take these in: `made` is what Clerk has, `events` what it sends; good neighbours come between them."""
        self.inputs = tuple(f"{it.type or it.kind} {', '.join(it.bent)}" for it in (*made, *events) if it.bent)
        self.owed |= {it.number for it in events if it.type in ("user.created", "user.updated") and _is_owed(it)}
        for it in made:
            self.clerk.rows[it.kind].append(it.body)
        for name in MATES:
            for kind in ("user", "membership"):
                self.clerk.rows[kind].append(write(SHAPES[kind].good(name)).encode())
        home = {**SHAPES["organization"].good("home"), "id": ORGANIZATION}
        self.clerk.rows["organization"].append(write(home).encode())
        bodies = [_event("organization.created", home)]
        bodies += [_event("user.created", SHAPES["user"].good(name)) for name in MATES]
        middle = len(events) // 2
        bodies += [it.body for it in events[:middle]]
        bodies += [_event("organizationMembership.created", SHAPES["membership"].good(name)) for name in MATES]
        bodies += [it.body for it in events[middle:]]
        await self.deliver(bodies)

    async def send(self, type_: str, *data: Any) -> None:
        """Send these as events of one type, together, and work them."""
        await self.deliver([_event(type_, it) for it in data])

    async def deliver(self, bodies: Sequence[bytes]) -> None:
        """Send webhooks with these bodies, signed, and work whatever is due."""
        for body in bodies:
            headers = signed(body, at=self.clock.at)
            self.sent[headers["svix-id"]] = body[:4_000].decode(errors="replace")
            answer = await self.api.post("/webhooks/clerk", content=body, headers=headers)
            self._expect(answer.status_code < 500, "POST /webhooks/clerk", f"{answer.status_code} {answer.text[:200]}")
        for _ in range(20):
            if not await self.services.delivery_processor.run_once():
                break
        else:
            self._expect(False, "inbox", "is never empty")

    async def sync(self) -> None:
        """Look at everything, as `instep sync check` does, and take all of it in, as a first sync does."""
        for run in (self.services.sync_services.sync.check, self.services.sync_services.sync.backfill):
            try:
                await run(actor="probe")
            except Exception as error:
                is_refusal = type(error).__name__ == "SyncRefused"
                self._expect(is_refusal, f"sync {run.__name__}", f"{type(error).__name__}: {error}"[:300])

    async def ask(self, requests: Sequence[Asked]) -> None:
        """Send requests that somebody who may could send; none may fail here, or leave a change half done."""
        fed = self.inputs
        for it in requests:
            client = self.console if it.is_page else self.api
            where = f"{it.method} {it.path.partition('?')[0]}"
            self.inputs = (f"{where} {it.bent}",)
            try:
                answer = await client.request(it.method, it.path, content=it.body, headers=it.headers)
            except Exception as error:
                self._expect(False, where, f"{type(error).__name__}: {error}"[:300])
                continue
            self._expect(answer.status_code < 500, where, f"status {answer.status_code}: {answer.text[:100]}")
            for operation in self.services.db.write_sync(_take_unfinished):
                self._expect(False, where, f"leaves an operation unfinished: {operation}")
        self.inputs = fed

    async def look(self) -> None:
        """Read everything back through every door."""
        users = await self._pages("/v1/users?limit=7", "data")
        stored = self.services.db.read_sync(_ids, "instep_users")
        listed = {it["id"] for it in users}
        self._expect(stored <= listed, "GET /v1/users", f"{len(stored - listed)} of {len(stored)} people are missing")
        for id in sorted(stored)[:40]:
            for path in ("/v1/users/{}", "/v1/users/{}/sessions", "/users/{}", "/users/{}/details"):
                await self._get(path.format(id))
        people = await self._pages(f"{HOME}/people?limit=7", "data")
        await self._exports(len(people))
        shown = {it["member"]["clerk_user_id"] for it in people if it["kind"] == "member"}
        known = {it["clerk_id"] for it in users}
        for name in MATES:
            is_kept = f"user_{name}" in known and f"user_{name}" in shown
            self._expect(is_kept, "batch mates", f"{name} is not kept and listed")
        for number in self.owed:
            self._expect(f"user_{number}" in known, "addresses", "one bad address keeps the whole user out")
        for it in people:
            if it["kind"] == "invitation":
                await self._get(f"{HOME}/invitations/{it['invitation']['id']}/timeline", but=(404,))
        await self._deliveries()
        home = f"/organizations/{ORGANIZATION}"
        pages = ("/", "/users", "/deliveries", "/audit", "/operations", "/sync", "/invitations", "/keys")
        for path in (*pages, f"{home}/members", f"{home}/audit", f"{home}/operations", "/users?q=first"):
            await self._get(path)
        for path in ("/v1/audit", "/v1/audit/export", "/v1/operations", "/v1/sync", "/v1/invitations", "/metrics"):
            await self._get(path)
        await self._invitations_are_counted()

    async def _invitations_are_counted(self) -> None:
        listed = (await self.api.get(f"{HOME}/people?limit=1")).json()
        is_due = any(_is_unreadable(it) for it in self.clerk.rows["invitation"])
        self._expect(bool(listed.get("warnings")) or not is_due, "invitations", "one disappears without a warning")

    async def _deliveries(self) -> None:
        for it in await self._pages("/v1/deliveries?limit=25", "deliveries"):
            if it["state"] in ("new", "waiting") and "does not show" not in (it["outcome"] or ""):
                what = f"is {it['state']}, to be tried again: {it['outcome']}"
                self.faults.append(Fault("delivery", what[:300], (self.sent.get(it["id"], ""),)))
            await self._get(f"/deliveries/{it['id']}")

    async def _exports(self, rows: int) -> None:
        for format in ("csv", "json"):
            where = f"GET {HOME}/people/export?format={format}"
            try:
                answer = await self.api.get(f"{HOME}/people/export", params={"format": format})
                table = list(csv.reader(io.StringIO(answer.text))) if format == "csv" else []
                found = len(table) - 1 if format == "csv" else len(json.loads(answer.text)["data"])
            except Exception as error:
                self._expect(False, where, f"cut off: {type(error).__name__}: {error}"[:300])
                continue
            self._expect(answer.status_code == 200 and found == rows, where, f"{answer.status_code}, {found} of {rows}")
            runs = [cell for row in table for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
            self._expect(not runs, where, f"cells that a spreadsheet runs: {runs[:2]}")

    async def _pages(self, path: str, name: str) -> list[Any]:
        rows: list[Any] = []
        cursor = ""
        for _ in range(60):
            answer = await self._get(path + (f"&cursor={cursor}" if cursor else ""))
            if answer is None or answer.status_code != 200:
                break
            page = answer.json()
            rows += page[name]
            cursor = page["next_cursor"]
            if not cursor:
                break
        return rows

    async def _get(self, path: str, *, but: tuple[int, ...] = ()) -> httpx2.Response | None:
        client = self.api if path.startswith(("/v1/", "/metrics")) else self.console
        where = f"GET {re.sub(r'(usr|msg|ogn|orginv)_[^/?]+', '{id}', path.partition('cursor=')[0])}"
        try:
            answer = await client.get(path)
        except Exception as error:
            self._expect(False, where, f"{type(error).__name__}: {error}"[:300])
            return None
        is_good = answer.status_code < 400 or answer.status_code in but
        self._expect(is_good, where, f"status {answer.status_code}: {answer.text[:100]}")
        return answer

    def _expect(self, is_kept: bool, where: str, what: str) -> None:
        if not is_kept:
            self.faults.append(Fault(where, what, self.inputs))

    def clear(self) -> None:
        """Empty the database and Clerk, and forget the faults."""
        self.services.db.write_sync(_empty)
        for rows in self.clerk.rows.values():
            rows.clear()
        self.clerk.wrote.clear()
        self.faults.clear()
        self.sent.clear()
        self.owed.clear()
        self.inputs = ()

    async def close(self) -> None:
        """Close everything."""
        await self.api.aclose()
        await self.console.aclose()
        await self.services.close()


def _event(type_: str, data: dict[str, Any]) -> bytes:
    return write({"type": type_, "object": "event", "data": data, "timestamp": 1, "instance_id": INSTANCE}).encode()


def _is_owed(it: Made) -> bool:
    """Whether a user has nothing bad but an address that is not the primary one."""
    return len(it.bent) == 1 and "(a secondary one)=" in it.bent[0]


def _is_unreadable(row: bytes) -> bool:
    """Whether a row lacks what makes it an invitation; read without instep's own code."""
    try:
        it = json.loads(row)
    except (ValueError, RecursionError):
        return True
    needed = ("id", "email_address", "role", "status")
    return not (isinstance(it, dict) and all(isinstance(it.get(name), str) for name in needed) and it["id"])


def _ids(conn: Conn, table: str) -> set[str]:
    columns = metadata.tables[table].c
    return set(conn.execute(sa.select(columns.id).where(columns.sort_name != "")).scalars())


def _take_unfinished(conn: Conn) -> list[str]:
    """The operations that have not ended; they are forgotten, so that each is named once."""
    table = metadata.tables["instep_operations"]
    is_open = table.c.state.in_(("open", "attention"))
    rows = conn.execute(sa.select(table.c.kind, table.c.state, table.c.reason).where(is_open))
    found = [f"{kind} {state}: {reason}" for kind, state, reason in rows]
    if found:
        conn.execute(sa.delete(table).where(is_open))
    return found


_KEPT = ("instep_sessions", "instep_pace", "instep_leases", "instep_audit", "instep_facts")


def _empty(conn: Conn) -> None:
    for table in reversed(metadata.sorted_tables):
        if table.name not in _KEPT and table.name.startswith("instep_"):
            conn.execute(sa.delete(table))


async def make_probe(url: str, **settings: str) -> Probe:
    """Make a probe on a migrated database."""
    clock, clerk = Ticking(), SayingClerk()
    client = ClerkClient("sk_test_x", api_url="http://clerk.test", transport=httpx2.MockTransport(clerk.answer))
    values = {
        "INSTEP_DATABASE_URL": url,
        "INSTEP_PUBLIC_URL": OURS,
        "INSTEP_ADMIN_KEY": KEY,
        "CLERK_SECRET_KEY": "sk_test_x",
        "CLERK_API_URL": "http://clerk.test",
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        **settings,
    }
    services = make_services(make_settings(values), clerk=client, clock=clock)
    app = make_app(services)
    token = await services.sign_in_pages.sessions.open_break_glass()
    api, console = _client(app, {"authorization": f"Bearer {KEY}"}), _client(app, {"origin": OURS})
    console.cookies.set("instep_session", token)
    return Probe(services, app, clock, clerk, api, console)


def _client(app: InstepAsgiApp, headers: dict[str, str]) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url=OURS, headers=headers, follow_redirects=True)


def rows_of(faults: Iterable[Fault]) -> dict[str, int]:
    """Count faults by where they were seen."""
    found: dict[str, int] = {}
    for it in faults:
        found[it.where] = found.get(it.where, 0) + 1
    return found


ROWS = (
    ("B1", r"GET .*(/people|/users)", r"(user|Membership)[^|]*(created|sign_in|last_active)_at( twice)?=[\d-]"),
    ("B2", r"GET /v1/users/{id}$", r"user[^|]*public_metadata"),
    ("B3", r"POST /v1/users/user_mate1/password", r"password=.*ud[89c]"),
    ("B4", r"delivery", r"\\u0000"),
    ("B5, addresses", r"addresses", r""),
    ("B5, invitations", r"invitations", r""),
)
"""Which faults are those of the table of cases: by where they were seen, and by their inputs."""


async def _run(url: str, seeds: range) -> int:
    engine = create_engine(url)
    migrate_schema(engine)
    engine.dispose()
    probe = await make_probe(url)
    found: dict[str, list[Fault]] = {}
    counts = dict.fromkeys(("objects", "events", "requests"), 0)
    for seed in seeds:
        choice = Seeded(seed)
        made = [make_object(choice, choice.one_of(tuple(SHAPES)), f"{seed}m{n}", bends=(1,)) for n in range(2)]
        events = [make_event(choice, f"{seed}e{n}") for n in range(6)]
        requests = [make_request(choice) for _ in range(12)]
        await probe.feed(made, events)
        await probe.sync()
        await probe.ask(requests)
        await probe.look()
        for name, these in (("objects", made), ("events", events), ("requests", requests)):
            counts[name] += len(these)
        for fault in probe.faults:
            for row in _rows(fault):
                found.setdefault(row, []).append(fault)
        probe.clear()
    await probe.close()
    print(f"{url.partition(':')[0]}: {counts}; faults by row, of which one may be of several:")
    for row in sorted(found):
        print(f"  {row}: {len(found[row])}")
        for where, what in list(dict.fromkeys((it.where, it.what) for it in found[row]))[:6]:
            example = next(it for it in found[row] if (it.where, it.what) == (where, what))
            print(f"    {where}: {what[:160]}\n      of {' | '.join(example.inputs)[:300]}")
    return len(found)


def _rows(fault: Fault) -> list[str]:
    """The rows that a fault may be one of: its inputs came together, so it may be several."""
    inputs = " | ".join(fault.inputs)
    return [row for row, where, bent in ROWS if re.match(where, fault.where) and re.search(bent, inputs)] or ["others"]


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    sys.exit(1 if asyncio.run(_run(sys.argv[1], range(int(sys.argv[2]), int(sys.argv[3])))) else 0)
