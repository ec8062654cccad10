"""An emulator in process with a clock that the test sets, and one on a port."""

import threading
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.serve.server import bind, create_server, server_url
from clerk_emulator.state.clock import Clock
from clerk_emulator.wire.keyring import Keyring
from tests.clerk_emulator.clients import Backend, Receiver

NOON = 1_790_000_000_000


@pytest.fixture(scope="session")
def private_key() -> str:
    """One key pair for all tests: generating one takes longer than most tests."""
    return Keyring("ins_test").private_pem


@pytest.fixture
def clock() -> Clock:
    """A clock whose wall time stands still."""
    return Clock(lambda: NOON)


@pytest.fixture
def emulator(clock: Clock, private_key: str) -> Emulator:
    """A fresh emulator in process."""
    return Emulator(clock=clock, private_key=private_key, id_seed=7)


@pytest.fixture
async def backend(emulator: Emulator) -> AsyncIterator[Backend]:
    """The Backend API of the emulator, called as an application would."""
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(emulator),
        base_url="http://127.0.0.1:8001",
        headers={"Authorization": f"Bearer {emulator.secret_key}"},
    ) as http:
        yield Backend(http)


@pytest.fixture
async def browser(emulator: Emulator) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser that keeps its cookies and follows nothing by itself."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001") as http:
        yield http


@pytest.fixture
def receiver(emulator: Emulator) -> Receiver:
    """An application that gets the webhooks of the emulator, in process."""
    receiver = Receiver()
    receiver.secret = emulator.webhooks.connect(
        "http://app.test/webhooks", transport=httpx2.ASGITransport(receiver)
    ).secret
    return receiver


@pytest.fixture
def served(private_key: str) -> Iterator[Emulator]:
    """An emulator on a port of its own."""
    listener = bind("127.0.0.1", 0)
    emulator = Emulator(private_key=private_key, public_url=server_url("127.0.0.1", listener))
    server = create_server(emulator)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    yield emulator
    server.should_exit = True
    thread.join(timeout=10)
    listener.close()
    assert not thread.is_alive(), "the server stopped"
