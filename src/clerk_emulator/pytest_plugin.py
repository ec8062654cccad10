"""Pytest plugin: the fixture `clerk` is a fresh emulator per test, in process or on a port."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx2
import pytest
import uvicorn

from clerk_emulator.serve.emulator import Emulator
from clerk_emulator.serve.server import bind, create_server, server_url
from clerk_emulator.state import sessions, users
from clerk_emulator.wire.keyring import Keyring
from clerk_emulator.wire.session_tokens import create_session_token

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 10
T = TypeVar("T")


class Clerk:
    """An emulator as a test holds it.

    `clerk.url` serves it on a port, from the first time it is asked for. Without that it stays in process:
    `clerk.transport` takes the place of the network in an httpx2 client, `clerk.app` is the ASGI app.
    """

    def __init__(self, private_key: str, options: Mapping[str, Any]) -> None:
        self._listener: socket.socket = bind(HOST, 0)
        public_url = server_url(HOST, self._listener)
        self.emulator = Emulator(**{"public_url": public_url, "private_key": private_key, **options})
        self._server: _ServerThread | None = None

    @property
    def app(self) -> Emulator:
        """Return the ASGI app."""
        return self.emulator

    @property
    def transport(self) -> httpx2.ASGITransport:
        """Return a transport that reaches the emulator without the network."""
        return httpx2.ASGITransport(self.emulator)

    @property
    def url(self) -> str:
        """Return the address, where it is served from now on."""
        if self._server is None:
            self._server = _ServerThread(self.emulator, self._listener)
        return self.emulator.site.url

    @property
    def secret_key(self) -> str:
        """Return the key for the Backend API."""
        return self.emulator.secret_key

    @property
    def publishable_key(self) -> str:
        """Return the publishable key."""
        return self.emulator.publishable_key

    @property
    def jwt_key(self) -> str:
        """Return the public key as PEM, by which session tokens are checked without the network."""
        return self.emulator.site.keyring.public_pem

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of a call of the Backend API."""
        return {"Authorization": f"Bearer {self.secret_key}"}

    @property
    def deliveries(self) -> list[dict[str, Any]]:
        """Return the deliveries of webhooks, oldest first, each with its `event`, `status`, `attempts` and `body`."""
        office = self.emulator.desk.office
        return self._do(lambda: [office.find_delivery(row["id"]) or row for row in reversed(office.list_deliveries())])

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return what was told, oldest first, whether or not there was an endpoint for it."""
        return self._do(self.emulator.desk.office.list_messages)

    @property
    def mail(self) -> list[dict[str, Any]]:
        """Return the letters and text messages that Clerk would have sent, oldest first."""
        return self._do(self.emulator.desk.mail)[::-1]

    def seed(self, **wish: Any) -> None:
        """Take a seed: `clerk.seed(users=[{"email_address": "ada@example.com"}])`."""
        self._do(lambda: self.emulator.seed(wish))

    def advance(self, **units: float) -> None:
        """Move the virtual time on: `clerk.advance(days=8)`."""
        self._do(lambda: self.emulator.clock.advance(**units))

    def fail(self, operation: str, *, count: int | None = 1, **how: Any) -> None:
        """Let the next call of an operation fail with 500; `count=None`: every call from now on.

        Or otherwise: `status`, `retry_after`, `body`, `after_effect`, `hang`, `latency_ms`.
        """
        does_something = {"status", "hang", "latency_ms", "body"} & set(how)
        wish = how if does_something else {"status": 500, **how}
        self._do(lambda: self.emulator.fail(operation, count=count, **wish))

    def lose(self, event: str, do: str = "drop", *, count: int | None = 1, **how: Any) -> None:
        """Let the next event of a type get lost, or: `double`, `delay`, `reorder`, `bad_signature`."""
        wish = {"event": event, "do": do, "count": count, **how}
        self._do(lambda: self.emulator.faults.add(wish))

    def connect(self, url: str, app: Any = None) -> str:
        """Send webhooks to an address, or, with an ASGI app, into that app, and return the signing secret."""
        transport = httpx2.ASGITransport(app) if app is not None else None
        return self._do(lambda: self.emulator.webhooks.connect(url, transport=transport)).secret

    def token(self, user_id: str, organization_id: str | None = None, *, origin: str | None = None) -> str:
        """Sign a user in and return a session token; `origin` becomes its `azp`, without one it has none."""

        def sign_in() -> str:
            one = self.emulator.state
            client = sessions.create_client(one)
            session = sessions.start(one, users.get(one, user_id), client, organization_id=organization_id)
            return create_session_token(one, session, self.emulator.site, origin=origin)

        return self._do(sign_in)

    async def drain(self) -> None:
        """Deliver every webhook that is due now."""
        if self._server is None:
            await self.emulator.webhooks.drain()
        else:
            draining = asyncio.run_coroutine_threadsafe(self.emulator.webhooks.drain(), self._server.loop)
            await asyncio.wrap_future(draining)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.stop()
        self._listener.close()

    def _do(self, act: Callable[[], T]) -> T:
        return act() if self._server is None else self._server.do(act)


class _ServerThread:
    """A thread that serves an emulator; what a test wants of it is done there, between two requests."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, emulator: Emulator, listener: socket.socket) -> None:
        self._server: uvicorn.Server = create_server(emulator)
        self._listener = listener
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="clerk-emulator", daemon=True)
        self._thread.start()
        if not self._is_ready.wait(TIMEOUT_SECONDS):
            raise RuntimeError("the emulator did not start")

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._is_ready.set()  # the socket listens already: a caller that is early waits in its queue
        await self._server.serve(sockets=[self._listener])

    def do(self, act: Callable[[], T]) -> T:
        """Do something in the thread and return what came of it."""

        async def acting() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(acting(), self.loop).result(TIMEOUT_SECONDS)

    def stop(self) -> None:
        """End the thread."""
        self._server.should_exit = True
        self._thread.join(TIMEOUT_SECONDS)


@pytest.fixture(scope="session")
def clerk_private_key() -> str:
    """Return one key pair for all tests: making one takes longer than most tests."""
    return Keyring("ins_test").private_pem


@pytest.fixture
def clerk_options() -> dict[str, Any]:
    """Return parameters for the emulator; override this fixture to pin keys or ids."""
    return {}


@pytest.fixture
def clerk(clerk_private_key: str, clerk_options: dict[str, Any]) -> Iterator[Clerk]:
    """Return a fresh emulator."""
    found = Clerk(clerk_private_key, clerk_options)
    yield found
    found.close()
