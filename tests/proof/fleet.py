"""A whole installation of real processes: a Clerk emulator, two `instep serve` and two `instep work` on PostgreSQL.

In front of the two that serve stands a balancer, as in front of any replicas: webhooks and browsers come through it,
each request to the next one that takes connections. An answer that breaks off is a 502.
"""

import asyncio
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
import sqlalchemy as sa
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.serve.server import bind, server_url
from instep.core.db import Conn, Database
from tests.support.svix import SECRET
from tests.support.world import KEY, QuietServer

ROOT = Path(__file__).parents[2]
PATHS = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
KEY_OF_CLERK = "sk_test_the_key_of_this_fleet_and_of_no_other"
PATIENCE = 120.0
MEMBERS = "/organizations/{}/members"
HOP_BY_HOP = {"host", "content-length", "connection", "transfer-encoding", "content-encoding"}


class TooSlow(AssertionError):
    """Something did not come about in time."""


async def until(
    holds: Callable[[], Awaitable[bool]], what: str | Callable[[], str], *, within: float = PATIENCE
) -> None:
    """Look again and again until it holds. Raises TooSlow with `what`."""
    deadline = monotonic() + within
    while not await holds():
        if monotonic() > deadline:
            raise TooSlow(f"not within {within:.0f} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.05)


@dataclass
class Process:
    """A process of the fleet, which can be killed and started again."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    folder: Path
    url: str = ""
    _popen: "subprocess.Popen[bytes] | None" = None

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def start(self) -> None:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            env = {**os.environ, **self.env}
            self._popen = subprocess.Popen(self.command, cwd=self.folder, env=env, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a power failure would."""
        self.send(signal.SIGKILL)
        assert self._popen is not None
        self._popen.wait()

    def send(self, what: signal.Signals) -> None:
        assert self._popen is not None
        self._popen.send_signal(what)

    def tell_to_end(self) -> None:
        """Have it end in order."""
        if self.is_alive:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)

    def wait(self) -> None:
        """Until it has ended; not for ever."""
        if self._popen is None:
            return
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def memory(self) -> float:
        """Resident memory, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Fleet:
    """Everything that runs."""

    emulator: Process
    serving: list[Process]
    working: list[Process]
    db: Database
    clerk: httpx2.AsyncClient
    http: httpx2.AsyncClient
    url: str = ""
    _turn: Any = field(default_factory=lambda: cycle((0, 1)))

    @property
    def replicas(self) -> list[Process]:
        return [*self.serving, *self.working]

    async def ready(self, process: Process) -> None:
        """Wait until a process that serves does so."""
        path = "/_emulator/keys" if process is self.emulator else "/health/ready"

        async def answers() -> bool:
            if not process.is_alive:
                raise TooSlow(f"{process.name} ended by itself")
            try:
                return (await self.http.get(f"{process.url}{path}", timeout=2)).is_success
            except httpx2.HTTPError:
                return False

        try:
            await until(answers, f"{process.name} answers")
        except TooSlow as error:
            raise TooSlow(f"{error}\n{process.log[-2_000:]}") from None

    async def desk(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the emulator's desk."""
        answer = await self.http.request(method, f"{self.emulator.url}/_emulator{path}", json=body, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    async def balance(self, request: Request) -> Response:
        """One request, handed to the next replica that takes connections."""
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        for _ in self.serving:
            target = self.serving[next(self._turn)]
            url = f"{target.url}{request.url.path}" + (f"?{request.url.query}" if request.url.query else "")
            try:
                answer = await self.http.request(
                    request.method, url, content=body, headers=headers, timeout=10, follow_redirects=False
                )
            except httpx2.ConnectError:
                continue
            except httpx2.HTTPError:
                break
            response = Response(answer.content, answer.status_code)
            response.raw_headers = [
                (name.lower().encode(), value.encode())
                for name, value in answer.headers.multi_items()
                if name.lower() not in HOP_BY_HOP
            ]
            return response
        return Response(status_code=502)


@asynccontextmanager
async def fleet(folder: Path, database_url: str, *, seed: dict[str, Any], lease: float = 0) -> AsyncIterator[Fleet]:
    """A fleet from when everything answers and the seed is in the mirror. `lease`: seconds, where not as shipped."""
    listener = bind("127.0.0.1", 0)
    balancer = server_url("127.0.0.1", listener)
    ports = [_free_port() for _ in range(3)]
    clerk = f"http://127.0.0.1:{ports[2]}"
    emulator = Process("clerk", _emulator(ports[2]), PATHS, folder, clerk)
    no_jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # a balancer is no browser
    async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None), cookies=no_jar) as http:
        keyed = httpx2.AsyncClient(
            base_url=f"{clerk}/v1", headers={"authorization": f"Bearer {KEY_OF_CLERK}"}, timeout=30
        )
        found = Fleet(emulator, [], [], Database(database_url), keyed, http, balancer)
        _man(found, folder, database_url, ports[:2], lease)
        server = QuietServer(_config(found))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            for process in (emulator, *found.replicas):
                process.start()
            for process in (emulator, *found.serving):
                await found.ready(process)
            await found.desk("POST", "/endpoints", {"url": f"{balancer}/webhooks/clerk", "secret": SECRET})
            await found.desk("POST", "/seed", seed)
            await until(lambda: _is_settled(found), "the seed is in the mirror")
            yield found
        finally:
            await found.clerk.aclose()
            for process in (*found.replicas, emulator):
                process.tell_to_end()
            for process in (*found.replicas, emulator):
                process.wait()
            server.should_exit = True
            await serving
            listener.close()
            found.db.close()


def _man(found: Fleet, folder: Path, database_url: str, ports: list[int], lease: float) -> None:
    """The replicas: two that serve, one of them with the worker inside as by default, and two that work."""
    env = {
        "INSTEP_DATABASE_URL": database_url,
        "INSTEP_PUBLIC_URL": found.url,
        "INSTEP_ADMIN_KEY": KEY,
        "INSTEP_RATE_LIMIT": "off",
        "INSTEP_SYNC_EVERY": "0",
        "INSTEP_LOG_JSON": "true",
        "CLERK_API_URL": found.emulator.url,
        "CLERK_FRONTEND_API_URL": found.emulator.url,
        "CLERK_SECRET_KEY": KEY_OF_CLERK,
        "CLERK_PUBLISHABLE_KEY": publishable_key(found.emulator.url),
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        **PATHS,
        "PROOF_LEASE": str(lease),
    }
    for number, port in enumerate(ports):
        own = {"INSTEP_PORT": str(port), "INSTEP_WORKER": str(number == 0).lower()}
        url = f"http://127.0.0.1:{port}"
        found.serving.append(Process(f"serve-{number}", _instep("serve"), env | own, folder, url))
    found.working += [Process(f"work-{number}", _instep("work"), env, folder) for number in range(2)]


def publishable_key(clerk: str) -> str:
    """The key that leads to this address."""
    return "pk_test_" + b64encode(f"{clerk.removeprefix('http://')}$".encode()).decode()


def _config(found: Fleet) -> uvicorn.Config:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (await found.balance(Request(scope, receive)))(scope, receive, send)

    return uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)


def _emulator(port: int) -> list[str]:
    """The emulator; a delivery that fails comes again after 10 ms, 0.6 s, 3.6 s, ..."""
    keys = ["--secret-key", KEY_OF_CLERK, "--publishable-key", publishable_key(f"http://127.0.0.1:{port}")]
    return [sys.executable, "-m", "clerk_emulator", "serve", "--port", str(port), "--retry-scale", "0.002", *keys]


def _instep(what: str) -> list[str]:
    return [sys.executable, "-m", "tests.proof.replica", what]


def _free_port() -> int:
    listener = bind("127.0.0.1", 0)
    with listener:
        return int(listener.getsockname()[1])


async def _is_settled(found: Fleet) -> bool:
    told = await found.desk("GET", "/deliveries?status=pending&limit=1")
    return told["total_count"] == 0 and await backlog(found) == {}


async def backlog(found: Fleet) -> dict[str, int]:
    """What is not ended: deliveries in the inbox by state, and operations."""
    from instep.operations.repository import list_operations
    from instep.webhooks.repository import count_by_state

    waiting = await found.db.read(count_by_state)
    unfinished = await found.db.read(list_operations, states=("open",), limit=1_000)
    return waiting | ({"operations": len(unfinished)} if unfinished else {})


async def settled(found: Fleet, *, within: float = PATIENCE) -> None:
    """Wait until every webhook came, and nothing waits in the inbox or the journal."""
    try:
        await until(lambda: _is_settled(found), "everything that was told is worked", within=within)
    except TooSlow as error:
        told = await found.desk("GET", "/deliveries?status=pending&limit=3")
        stuck = await found.db.read(_stuck)
        raise TooSlow(f"{error}: {await backlog(found)}; on the way: {told}; stuck: {stuck}") from None


def _stuck(conn: Conn) -> list[str]:
    """What waits and what the database is at, to be read by a person."""
    waiting = "SELECT id, type, state, attempts, outcome, due_at - extract(epoch FROM now()) * 1000 FROM "
    waiting += "instep_deliveries WHERE due_at IS NOT NULL LIMIT 5"
    busy = "SELECT pid, state, wait_event, now() - xact_start, left(query, 200) FROM pg_stat_activity "
    busy += "WHERE datname = current_database() AND state <> 'idle'"
    return [str(tuple(row)) for query in (waiting, busy) for row in conn.execute(sa.text(query))]
