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
    """An emulator for one test.

    `clerk.url` serves it on a port, from the first time it is read. Until then it stays in process:
    `clerk.transport` replaces the network in an httpx2 client, `clerk.app` is the ASGI app.
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
        """Return the address and start serving there."""
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
        """Return the public key as PEM, for verifying session tokens without the network."""
        return self.emulator.site.keyring.public_pem

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of a Backend API call."""
        return {"Authorization": f"Bearer {self.secret_key}"}

    @property
    def deliveries(self) -> list[dict[str, Any]]:
        """Return the webhook deliveries, oldest first, each with its `event`, `status`, `attempts` and `body`."""
        webhook_admin = self.emulator.control.webhook_admin
        return self._do(
            lambda: [webhook_admin.find_delivery(row["id"]) or row for row in reversed(webhook_admin.list_deliveries())]
        )

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events, oldest first, whether or not an endpoint received them."""
        return self._do(self.emulator.control.webhook_admin.list_messages)

    @property
    def mail(self) -> list[dict[str, Any]]:
        """Return the emails and text messages that Clerk would have sent, oldest first."""
        return self._do(self.emulator.control.mail)[::-1]

    def seed(self, **data: Any) -> None:
        """Load a seed: `clerk.seed(users=[{"email_address": "ada@example.com"}])`."""
        self._do(lambda: self.emulator.seed(data))

    def advance(self, **units: float) -> None:
        """Advance the virtual time: `clerk.advance(days=8)`."""
        self._do(lambda: self.emulator.clock.advance(**units))

    def fail(self, operation: str, *, count: int | None = 1, **options: Any) -> None:
        """Make the next call of an operation fail with 500; `count=None`: every call from now on.

        Other effects: `status`, `retry_after`, `body`, `after_effect`, `hang`, `latency_ms`.
        """
        does_something = {"status", "hang", "latency_ms", "body"} & set(options)
        data = options if does_something else {"status": 500, **options}
        self._do(lambda: self.emulator.fail(operation, count=count, **data))

    def lose(self, event: str, do: str = "drop", *, count: int | None = 1, **options: Any) -> None:
        """Drop the next event of a type, or apply another fault: `double`, `delay`, `reorder`, `bad_signature`."""
        data = {"event": event, "do": do, "count": count, **options}
        self._do(lambda: self.emulator.faults.add(data))

    def connect(self, url: str, app: Any = None) -> str:
        """Send webhooks to an address, or directly to an ASGI app, and return the signing secret."""
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

    def _do(self, function: Callable[[], T]) -> T:
        return function() if self._server is None else self._server.do(function)


class _ServerThread:
    """A thread that serves an emulator; calls of the test run there, between two requests."""

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
        self._is_ready.set()  # the socket is already listening: early connections wait in its queue
        await self._server.serve(sockets=[self._listener])

    def do(self, function: Callable[[], T]) -> T:
        """Call a function in the thread and return its result."""

        async def call_function() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call_function(), self.loop).result(TIMEOUT_SECONDS)

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
