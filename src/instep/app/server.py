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
    """uvicorn, with a limit of connections that holds from the first moment.

    It does not raise the signal a second time after it has stopped: what comes after must still run. `listening` are
    the addresses that it listens on; `on_started` is called with the first of them once connections are accepted.
    """

    on_started: Callable[[str], None] = staticmethod(lambda _: None)

    def __init__(self, config: uvicorn.Config, protocol: type[BoundedProtocol]) -> None:
        super().__init__(config)
        self.listening: list[tuple[str, int]] = []
        self._protocol = protocol
        self._acceptor: ConnectionAcceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin the application, then accept connections. Ends the process with an error where it can't listen."""
        listeners = sockets or open_listeners(self.config.host, self.config.port)
        await super().startup(sockets=[])  # the application alone: uvicorn listens to none
        self.listening = [listener.getsockname()[:2] for listener in listeners]
        at_once = max(self._protocol.limits.connections // ACCEPT_BATCH_DIVISOR, 1)
        self._acceptor = ConnectionAcceptor(listeners, self._make_protocol, self._protocol.make_room, at_once)
        if self.started:
            host, port = self.listening[0]
            self.on_started(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and end in order what is open."""
        if self._acceptor is not None:
            self._acceptor.close()
        await super().shutdown(sockets=[])

    def _make_protocol(self) -> BoundedProtocol:
        return self._protocol(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in order on the first Ctrl-C or SIGTERM, at once on the second."""
        with _handle_signals(lambda it: self.handle_exit(it, None)):
            yield


class PortInUseError(PermanentError):
    """Somebody else listens there."""

    def __init__(self, port: int, hint: str) -> None:
        super().__init__(f"Port {port} is taken. Stop what uses it, or choose another: {hint}", code="port_taken")


def require_free_port(host: str, port: int, *, hint: str) -> None:
    """Raises PortInUseError with the hint; any other trouble of listening is told when it comes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(port, hint) from error


def make_server(services: Services, *, host: str, port: int) -> Server:
    """A server of the application, not started."""
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
    """The worker alone, until Ctrl-C or SIGTERM."""
    told = asyncio.Event()
    with _handle_signals(lambda _: told.set()):
        services.start(has_worker=True)
        await told.wait()
    await services.close()


@contextlib.contextmanager
def _handle_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM are handled on the event loop, and by nobody else."""
    loop = asyncio.get_running_loop()
    for it in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(it, handle, it)
    try:
        yield
    finally:
        for it in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(it)
