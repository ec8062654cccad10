"""Serve on a port: bind first, then run until stopped."""

import socket
import threading
from typing import BinaryIO

import uvicorn

from clerk_emulator.serve.emulator import Emulator

GRACE_SECONDS = 2


class PortInUseError(OSError):
    """Another process listens on this port."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 selects a free one.

    Accepted connections send small responses immediately (TCP_NODELAY). asyncio sets that option only if the protocol
    number of the socket is given, so it is given, and set here for event loops that don't set it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PortInUseError(f"can't listen on {host}:{port}: {error.strerror}") from error
    return listener


def server_url(host: str, listener: socket.socket) -> str:
    """Return the address of the socket for a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{listener.getsockname()[1]}"


def create_server(emulator: Emulator) -> uvicorn.Server:
    """Return a server for an emulator; run it on sockets that are already bound."""
    config = uvicorn.Config(
        emulator,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def stop_on_eof(pipe: BinaryIO, server: uvicorn.Server) -> None:
    """Stop a server at the end of a pipe: when the process that has its other end has exited."""

    def watch() -> None:
        while pipe.read(1):
            continue
        server.should_exit = True

    threading.Thread(target=watch, name="stop-on-eof", daemon=True).start()
