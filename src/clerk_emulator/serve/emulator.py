"""The emulator: an ASGI app with keys, state file and webhook dispatcher."""

import asyncio
import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from clerk_emulator.backend_api import operations
from clerk_emulator.backend_api.request_handler import BackendApi
from clerk_emulator.control import pages, routes
from clerk_emulator.control.service import ControlService
from clerk_emulator.frontend_api import clerk_scripts, page_routes, request_handler
from clerk_emulator.frontend_api import operations as frontend_api_operations
from clerk_emulator.state import roles, snapshot
from clerk_emulator.state.clock import Clock
from clerk_emulator.state.ids import IdGenerator
from clerk_emulator.state.instance import Instance
from clerk_emulator.webhooks.admin import DispatcherAdmin
from clerk_emulator.webhooks.dispatcher import WebhookDispatcher
from clerk_emulator.wire import webhook_payloads
from clerk_emulator.wire.fault_injection import FaultRegistry
from clerk_emulator.wire.keyring import Keyring
from clerk_emulator.wire.rate_limits import RateLimiter
from clerk_emulator.wire.request_log import RequestLog
from clerk_emulator.wire.site_config import PROXY_PATH, SiteConfig

DEFAULT_URL = "http://127.0.0.1:8001"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
UNVERSIONED_PATHS = (
    "/m2m_tokens",
    "/m2m_tokens/{rest:path}",
    "/api_keys",
    "/api_keys/{rest:path}",
)  # paths that SDKs call
SAVE_SECONDS = 1.0
SYNCHRONOUS_SAVE_MAX_BYTES = 500_000  # a state up to this size is saved before each response that acknowledges a change
SAVE_INTERVAL_FACTOR = 20  # a large state is saved less often, so that saving takes a twentieth of the time
STATE_FILE_VERSION = 1
LOG = logging.getLogger("clerk_emulator")


class Emulator:
    """An emulator of one Clerk instance.

    `.app` is an ASGI app, to be served, or to be used in process through `httpx2.ASGITransport`. While it is
    served, or within `async with emulator:`, webhooks are delivered in the background; otherwise `await
    emulator.webhooks.drain()` delivers those that are due. A `state_file` stores everything, keys included: a
    change is saved before its response as long as the state has at most `SYNCHRONOUS_SAVE_MAX_BYTES`, otherwise
    within seconds.
    """

    def __init__(
        self,
        *,
        state_file: str | os.PathLike[str] | None = None,
        public_url: str = DEFAULT_URL,
        secret_key: str | None = None,
        retry_scale: float = 1.0,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        """Create an emulator.

        Options: `publishable_key` (default: derived from the URL), `private_key` (PEM, default: generated when first
        needed), `redirect_hosts` (hosts besides this machine to which browsers may be redirected; `*`: all), `id_seed`
        (repeatable ids), `npm` (the npm folder with Clerk's browser scripts), `profile` (`minimal`: as little as Clerk
        may return; default: the stored settings).
        """
        extras = _EmulatorOptions(options)
        self.clock = clock or Clock()
        self._file = Path(state_file) if state_file is not None else None
        saved = _read_state_file(self._file)
        self.state = Instance(clock=self.clock, ids=IdGenerator(extras.id_seed))
        if saved:
            snapshot.load(self.state, saved["state"])
        else:
            roles.create_defaults(self.state)
        if extras.profile is not None:
            self.state.settings.change({"profile": extras.profile})
        self.site = SiteConfig(
            url=public_url.rstrip("/"),
            secret_key=secret_key or saved.get("secret_key") or self.state.ids.secret("sk_test_"),
            keyring=Keyring(self.state.id, extras.private_key or saved.get("private_key")),
            pinned_publishable_key=extras.publishable_key,
            redirect_hosts=list(extras.redirect_hosts),
            scripts=clerk_scripts.find_versions(extras.npm),
        )
        _require_test_keys(self.site)
        self.state.public_url = self.site.url
        self.faults = FaultRegistry(operations.OPERATION_IDS | request_handler.OPERATIONS, webhook_payloads.EVENT_TYPES)
        self.request_log = RequestLog()
        self.rate_limiter = RateLimiter()
        self.webhooks = WebhookDispatcher(self.state, self.site, self.faults, retry_scale)
        self.webhooks.load(saved.get("webhooks") or {})
        self.state.listener = self.webhooks.handle_event
        self.control = ControlService(
            instance=self.state,
            site=self.site,
            faults=self.faults,
            request_log=self.request_log,
            rate_limiter=self.rate_limiter,
            webhook_admin=DispatcherAdmin(self.webhooks),
            profile=extras.profile or "default",
        )
        self._is_dirty = not saved
        self._saved_revision = self.webhooks.log.revision
        self._written = 0  # characters of the state when it was last saved
        self._app = self._build(extras.npm)

    @property
    def app(self) -> "Emulator":
        """Return the ASGI app."""
        return self

    @property
    def secret_key(self) -> str:
        """Return the key for the Backend API."""
        return self.site.secret_key

    @property
    def publishable_key(self) -> str:
        """Return the key that contains the address of the Frontend API."""
        return self.site.publishable_key

    def jwks(self) -> dict[str, Any]:
        """Return the public keys."""
        return self.site.keyring.jwks

    def seed(self, seed_data: Mapping[str, Any]) -> dict[str, int]:
        """Load a seed; its format is defined in `control.seeding`."""
        self._is_dirty = True
        return self.control.seed(seed_data)

    def reset(self, *, keeps_endpoints: bool = False) -> None:
        """Start over; endpoints are deleted unless `keeps_endpoints`."""
        self._is_dirty = True
        self.control.reset(keeps_endpoints=keeps_endpoints)

    def fail(self, operation: str, **options: Any) -> None:
        """Make an operation fail: `emulator.fail("CreateUser", status=500, count=2)`."""
        self.faults.add({"operation": operation, **options})

    def save(self) -> None:
        """Write the whole state to the state file atomically."""
        if self._file is None:
            return
        saved = {
            "form": STATE_FILE_VERSION,
            "secret_key": self.site.secret_key,
            "private_key": self.site.keyring.private_pem,
            "webhooks": self.webhooks.dump(),
            "state": snapshot.dump(self.state),
        }
        self._is_dirty, self._saved_revision = False, self.webhooks.log.revision
        text = json.dumps(saved, ensure_ascii=False)
        self._written = len(text)
        _write_state_file(self._file, text)

    async def __aenter__(self) -> "Emulator":
        await self.webhooks.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.webhooks.stop()
        self.save()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and (
            scope["method"] != "GET" or scope["path"].removeprefix(PROXY_PATH).startswith("/v1/client")
        ):
            self._is_dirty = True
            if self._file is not None and self._written <= SYNCHRONOUS_SAVE_MAX_BYTES:
                send = self._save_before_response(send)
        await self._app(scope, receive, send)

    def _save_before_response(self, send: Send) -> Send:
        """Return a `send` that saves the state before the response starts, so that acknowledged changes are stored."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._try_to_save()
            await send(message)

        return sending

    def _build(self, npm: str | os.PathLike[str] | None) -> Starlette:
        api = BackendApi(
            instance=self.state,
            site=self.site,
            faults=self.faults,
            request_log=self.request_log,
            rate_limiter=self.rate_limiter,
            record_caller=self.webhooks.record_caller,
        )

        browsers = request_handler.FrontendApi(
            instance=self.state,
            site=self.site,
            faults=self.faults,
            request_log=self.request_log,
            record_caller=self.webhooks.record_caller,
        )

        async def below_v1(request: Request) -> Response:
            return await (
                browsers if request_handler.is_frontend_request(request) or _is_frontend_only(request) else api
            ).answer(request)

        async def backend(request: Request) -> Response:
            return await api.answer(request)

        async def frontend(request: Request) -> Response:
            return await browsers.answer(request)

        return Starlette(
            routes=[
                *page_routes.build_routes(self.state, self.site, self.webhooks.record_caller),
                *pages.build_page_routes(self.control),
                *routes.build_routes(self.control),
                *clerk_scripts.build_routes(npm, PROXY_PATH),
                Route("/v1/{rest:path}", below_v1, methods=[*METHODS, "OPTIONS"]),
                *(Route(path, backend, methods=METHODS) for path in UNVERSIONED_PATHS),
                Route("/{rest:path}", frontend, methods=[*METHODS, "OPTIONS"]),  # the proxy path and all others
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self:
            saving = asyncio.create_task(self._save_periodically())
            try:
                yield
            finally:
                saving.cancel()
                await asyncio.gather(saving, return_exceptions=True)

    async def _save_periodically(self) -> None:
        while True:
            began = time.monotonic()
            if self._is_dirty or self._saved_revision != self.webhooks.log.revision:
                self._try_to_save()
            await asyncio.sleep(max(SAVE_SECONDS, SAVE_INTERVAL_FACTOR * (time.monotonic() - began)))

    def _try_to_save(self) -> None:
        try:
            self.save()
        except OSError as error:
            self._is_dirty = True
            LOG.warning("the state could not be saved: %s", error)


class _EmulatorOptions:
    """The optional parameters of an emulator."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        known = {"publishable_key", "private_key", "redirect_hosts", "id_seed", "npm", "profile"}
        if set(options) - known:
            raise TypeError(f"unknown: {', '.join(sorted(set(options) - known))}")
        self.publishable_key: str | None = options.get("publishable_key")
        self.private_key: str | None = options.get("private_key")
        self.redirect_hosts: Iterable[str] = options.get("redirect_hosts") or ()
        self.id_seed: int | None = options.get("id_seed")
        self.profile: str | None = options.get("profile")
        self.npm: str | os.PathLike[str] | None = options.get("npm")


class InvalidStateFileError(ValueError):
    """A state file that cannot be read."""


def _is_frontend_only(request: Request) -> bool:
    """Return whether the operation of a request exists in the Frontend API and not in the Backend API."""
    method, path = request.method, request.url.path
    return not operations.match_operation(method, path.removeprefix("/v1")) and bool(
        frontend_api_operations.find(method, path)
    )


def _require_test_keys(site: SiteConfig) -> None:
    if not site.secret_key.startswith("sk_test_") or not site.publishable_key.startswith("pk_test_"):
        raise ValueError("the emulator accepts only test keys: sk_test_... and pk_test_...")


def _read_state_file(file: Path | None) -> dict[str, Any]:
    if file is None or not file.exists():
        return {}
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        if saved["form"] != STATE_FILE_VERSION:
            raise InvalidStateFileError(
                f"{file} has form {saved['form']}; this emulator reads form {STATE_FILE_VERSION}"
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidStateFileError):
            raise
        raise InvalidStateFileError(f"{file} is not a state file of the emulator: {error}") from error
    return dict(saved)


def _write_state_file(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
