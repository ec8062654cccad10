"""Run the HTTP server or the worker until a signal stops it."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from instep.app.asgi import make_app
from instep.app.connections import (
    ACCEPT_BATCH_DIVISOR,
    BoundedProtocol,
    ConnectionAcceptor,
    ConnectionLimits,
    limit_to_open_files,
    make_protocol,
    open_listeners,
)
from instep.app.container import Services
from instep.core.errors import PermanentError

SHUTDOWN_GRACE = 5


class Server(uvicorn.Server):
    """uvicorn with a connection limit that holds from the start.

    It does not raise the signal again after it has stopped, so that cleanup can run. `listening` are the addresses it
    listens on; `on_started` is called with the first of them once connections are accepted.
    """

    on_started: Callable[[str], None] = staticmethod(lambda _: None)

    def __init__(self, config: uvicorn.Config, protocol: type[BoundedProtocol]) -> None:
        super().__init__(config)
        self.listening: list[tuple[str, int]] = []
        self._protocol = protocol
        self._acceptor: ConnectionAcceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections. Exits with an error where it can't listen."""
        listeners = sockets or open_listeners(self.config.host, self.config.port)
        await super().startup(sockets=[])  # the application only: uvicorn gets no sockets
        self.listening = [listener.getsockname()[:2] for listener in listeners]
        at_once = max(self._protocol.limits.connections // ACCEPT_BATCH_DIVISOR, 1)
        self._acceptor = ConnectionAcceptor(listeners, self._make_protocol, self._protocol.make_room, at_once)
        if self.started:
            host, port = self.listening[0]
            self.on_started(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and close open connections gracefully."""
        if self._acceptor is not None:
            self._acceptor.close()
        await super().shutdown(sockets=[])

    def _make_protocol(self) -> BoundedProtocol:
        return self._protocol(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully on the first Ctrl-C or SIGTERM, immediately on the second."""
        with _handle_signals(lambda signal_number: self.handle_exit(signal_number, None)):
            yield


class PortInUseError(PermanentError):
    """Another process listens on the port."""

    def __init__(self, port: int, hint: str) -> None:
        super().__init__(
            f"Port {port} is in use. Stop the program that uses it, or choose another: {hint}", code="port_taken"
        )


def require_free_port(host: str, port: int, *, hint: str) -> None:
    """Raise PortInUseError with the hint if the port is taken; other errors are raised when listening."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(port, hint) from error


def make_server(services: Services, *, host: str, port: int) -> Server:
    """Create a server of the application, not started."""
    settings = services.settings
    limits = ConnectionLimits(
        head=settings.instep_header_timeout,
        body=settings.instep_body_timeout,
        idle=settings.instep_idle_timeout,
        connections=limit_to_open_files(settings.instep_connections),
    )
    protocol = make_protocol(limits)
    config = uvicorn.Config(
        make_app(services),
        host=host,
        port=port,
        http=protocol,
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_GRACE,
    )
    return Server(config, protocol)


async def run_worker_until_stopped(services: Services) -> None:
    """Run the worker alone until Ctrl-C or SIGTERM."""
    stopped = asyncio.Event()
    with _handle_signals(lambda _: stopped.set()):
        services.start(has_worker=True)
        await stopped.wait()
    await services.close()


@contextlib.contextmanager
def _handle_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Handle Ctrl-C and SIGTERM on the event loop within the context."""
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, handle, signal_number)
    try:
        yield
    finally:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signal_number)
