"""Demo: the Clerk emulator and instep on this machine with sample data."""

import asyncio
import base64
import contextlib
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from instep.app import demo_data
from instep.app.config import Settings, make_settings
from instep.app.container import Services, make_services
from instep.app.server import make_server, require_free_port
from instep.clerk.emulator_control import WEBHOOK_PATH, EmulatorControl
from instep.core.errors import PermanentError
from instep.core.schema_migrations import migrate_schema
from instep.mirror.membership_status import deactivate_memberships_by_email
from instep.mirror.repository import count_members, find_organization

DEMO_HOST = "127.0.0.1"
SHUTDOWN_GRACE = 1  # seconds for open pages to close when it is stopped


class DemoError(PermanentError):
    """The demo can't start; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="demo_failed")


@dataclass(frozen=True)
class DemoLocation:
    """Directory and ports of a demo."""

    folder: Path
    port: int
    emulator_port: int

    @property
    def url(self) -> str:
        """URL of instep."""
        return f"http://{DEMO_HOST}:{self.port}"

    @property
    def emulator_url(self) -> str:
        """URL of the emulator."""
        return f"http://{DEMO_HOST}:{self.emulator_port}"

    @property
    def env_file(self) -> Path:
        """File with the variables for other clients of the two."""
        return self.folder / "demo.env"


async def run_demo(location: DemoLocation, *, is_fresh: bool) -> None:
    """Start both, seed what is missing, print the addresses, and serve until stopped. Raises DemoError."""
    for name, port in (("INSTEP_PORT", location.port), ("CLERK_EMULATOR_PORT", location.emulator_port)):
        require_free_port(DEMO_HOST, port, hint=f"{name}=... make demo")
    if is_fresh:
        shutil.rmtree(location.folder, ignore_errors=True)
    location.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with _run_emulator(location) as emulator:
        settings = await _prepare_settings(location, emulator)
        services = make_services(settings)
        migrate_schema(services.db.engine)
        server = make_server(services, host=DEMO_HOST, port=location.port)
        server.config.timeout_graceful_shutdown = SHUTDOWN_GRACE
        serving = asyncio.create_task(server.serve())
        try:
            await _wait_until(lambda: server.started or serving.done(), "instep")
            await _connect_unless_stopped(serving, _connect(location, emulator, services, settings))
            await serving
        finally:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
            await services.close()


@contextlib.asynccontextmanager
async def _run_emulator(location: DemoLocation) -> AsyncIterator[EmulatorControl]:
    """Run the emulator as a process that ends with ours, even by `kill -9`: it watches its standard input."""
    log = (location.folder / "emulator.log").open("ab")
    command = ["-m", "clerk_emulator", "serve", "--port", str(location.emulator_port)]
    options = ["--state", str(location.folder / "clerk.json"), "--until-stdin-closes"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    emulator = EmulatorControl(location.emulator_url)
    try:
        await _wait_until(lambda: process.returncode is not None, "the emulator", emulator.answers)
        if process.returncode is not None:
            raise DemoError(f"The emulator ended with {process.returncode}; see {location.folder / 'emulator.log'}")
        yield emulator
    finally:
        await emulator.close()
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()
        log.close()


async def _wait_until(
    is_done: Callable[[], bool], name: str, answers: Callable[[], Awaitable[bool]] | None = None
) -> None:
    """Poll every 50 ms, for up to 20 s."""
    for _ in range(400):
        if is_done() or (answers is not None and await answers()):
            return
        await asyncio.sleep(0.05)
    raise DemoError(f"{name} did not start within 20 s.")


async def _prepare_settings(location: DemoLocation, emulator: EmulatorControl) -> Settings:
    """Return the settings of this demo, the same on every start; write them to `demo.env` for other clients."""
    previous = dotenv_values(location.env_file) if location.env_file.exists() else {}
    keys = await emulator.keys()
    values = {
        **keys.get("variables", {}),
        "CLERK_API_URL": location.emulator_url,
        "CLERK_SECRET_KEY": keys["secret_key"],
        "CLERK_PUBLISHABLE_KEY": keys["publishable_key"],
        "CLERK_WEBHOOK_SIGNING_SECRET": previous.get("CLERK_WEBHOOK_SIGNING_SECRET") or _generate_signing_secret(),
        "INSTEP_URL": location.url,
        "INSTEP_ADMIN_KEY": previous.get("INSTEP_ADMIN_KEY") or secrets.token_urlsafe(24),
        "INSTEP_DATABASE_URL": f"sqlite:///{(location.folder / 'instep.db').resolve()}",
    }
    location.env_file.touch(mode=0o600)
    location.env_file.chmod(0o600)
    location.env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return make_settings(
        {
            **values,
            "INSTEP_PUBLIC_URL": location.url,
            "INSTEP_PORT": str(location.port),
            "INSTEP_DATA_DIR": str(location.folder),
            "CLERK_FRONTEND_API_URL": location.emulator_url,
        }
    )


def _generate_signing_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


async def _connect(location: DemoLocation, emulator: EmulatorControl, services: Services, settings: Settings) -> None:
    """Connect the webhook, seed what is missing, and print the welcome."""
    await emulator.connect(location.url + WEBHOOK_PATH, settings.webhook_secrets[0])
    if not await emulator.has_organization(demo_data.ORGANIZATION_SLUG):
        await emulator.seed(demo_data.build_seed())
    await _wait_until_mirrored(services)
    _print_welcome(location)


async def _connect_unless_stopped(serving: asyncio.Task[None], connecting: Coroutine[Any, Any, None]) -> None:
    """Connect, and stop as soon as the server has stopped on Ctrl-C or SIGTERM, which it handles."""
    task = asyncio.create_task(connecting)
    try:
        await asyncio.wait([serving, task], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _wait_until_mirrored(services: Services) -> None:
    """Wait until the sample data has arrived by webhook, then deactivate the former members."""
    for _ in range(600):
        found = await services.db.read(find_organization, demo_data.ORGANIZATION_SLUG)
        totals = await services.db.read(count_members, found.id) if found else {}
        if sum(totals.values()) >= demo_data.MEMBER_COUNT:
            await services.db.write(
                deactivate_memberships_by_email, demo_data.list_deactivated_emails(), now=services.clock()
            )
            return
        await asyncio.sleep(0.05)
    raise DemoError("The sample data did not arrive by webhook within 30 s.")


def _print_welcome(location: DemoLocation) -> None:
    sys.stdout.write(
        f"""
  instep    {location.url}       Members & Roles of Northwind Law
  Clerk     {location.emulator_url}       the emulator: sign in, accept invitations, see sent emails

  Sign in as {demo_data.ADMIN_EMAIL} (admin)
          or {demo_data.MEMBER_EMAIL} (member)
  Keys are in {location.env_file}. Ctrl-C stops both; FRESH=1 starts over.

"""
    )
    sys.stdout.flush()
