"""Answers of the emulator on a kept connection are sent at once, on every event loop."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx2
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clerk_emulator import Emulator
from clerk_emulator.serve.server import bind, create_server, server_url
from tests.support.emulated import emulated, private_key

Loop = Literal["asyncio", "uvloop"]


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Collect, for each connection that a server accepts, whether small answers wait for an acknowledgement."""
    found: list[bool] = []
    accept = H11Protocol.connection_made

    def noted(self: H11Protocol, transport: Any) -> None:
        accepted = transport.get_extra_info("socket")
        found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)
        accept(self, transport)

    monkeypatch.setattr(H11Protocol, "connection_made", noted)
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", {**uvicorn.config.HTTP_PROTOCOLS, "auto": H11Protocol})
    return found


@contextmanager
def served(emulator: Emulator, listener: socket.socket, loop: Loop) -> Iterator[None]:
    """Serve an emulator on one kind of event loop."""
    server = create_server(emulator)
    server.config.loop = loop
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    yield
    server.should_exit = True
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_i1_the_served_emulator_delays_no_answer(delays: list[bool], loop: Loop) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with bind("127.0.0.1", 0) as listener:
        emulator = Emulator(private_key=private_key(), public_url=server_url("127.0.0.1", listener))
        with served(emulator, listener, loop):
            assert httpx2.get(f"{emulator.site.url}/_emulator/keys").status_code == 200
    assert delays == [False]


def test_i1_the_fixture_of_pytest_delays_no_answer(delays: list[bool]) -> None:
    with emulated() as clerk, httpx2.Client(base_url=clerk.url, headers=clerk.headers) as http:
        assert [http.get("/v1/users").status_code for _ in range(3)] == [200, 200, 200]
    assert delays == [False]
