"""A host that embeds instep keeps its process: nothing global is changed, neither for good nor for a while."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = """
import asyncio, contextlib, gc, json, locale, logging, os, signal, socket, sys, threading, warnings

gc.collect(); gc.freeze(); gc.set_threshold(4_321, 7, 7); sys.setswitchinterval(0.0123)
logging.getLogger().setLevel(logging.ERROR)
frozen = gc.get_freeze_count()

import structlog
from prometheus_client import REGISTRY

def umask():
    mask = os.umask(0o22); os.umask(mask)
    return mask

def named(handler):
    return f"{type(handler).__name__} {id(handler)}"

def snapshot():
    root, style = logging.getLogger(), structlog.get_config()
    return {
        "gc": [gc.get_threshold(), gc.isenabled(), gc.get_freeze_count() >= frozen, gc.get_debug(), len(gc.callbacks)],
        "turns": sys.getswitchinterval(),
        "limits": [sys.getrecursionlimit(), threading.stack_size(), socket.getdefaulttimeout()],
        "signals": {str(it): named(signal.getsignal(it)) for it in signal.valid_signals()},
        "hooks": [repr(it) for it in (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook)],
        "root logger": [root.level, repr(root.handlers), repr(root.filters), logging.root.manager.disable],
        "structlog": {name: repr(value) for name, value in style.items()},
        "loop policy": type(asyncio.get_event_loop_policy()).__name__,
        "warnings": [repr(it) for it in warnings.filters],
        "locale": locale.setlocale(locale.LC_ALL),
        "umask": umask(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "streams": [repr(sys.stdout), repr(sys.stderr)],
        "metrics": sorted(REGISTRY._names_to_collectors),
    }

before, during = snapshot(), []

from instep.core.db import create_engine
from instep.core.schema_migrations import migrate_schema
from tests.support.town import SEED
from tests.support.world import DOOR, make_firm
from tests.support.deliveries import user_body
from tests.support.svix import signed

async def main(url):
    during.append(snapshot())  # as the host's own loop and its redirection have it
    structlog.contextvars.bind_contextvars(host="mine")
    firm = make_firm(url)
    firm.emulator.seed(SEED)
    await firm.settle()
    firm.services.start(has_worker=True)
    sync = firm.services.sync_services.sync
    runs = [sync.check(actor="host", on_progress=lambda *_: during.append(snapshot())) for _ in range(2)]
    checking = asyncio.gather(*runs, return_exceptions=True)
    for path in ("/health/ready", "/metrics", "/v1/organizations/northwind/people", "/sign-in"):
        assert (await firm.api().get(path)).status_code == 200, path
    event = user_body(1)
    await firm.api(None).post(DOOR, content=event, headers=signed(event, at=firm.clock()))
    ended = await checking
    assert sum(not isinstance(it, Exception) for it in ended) >= 1, ended
    first = await sync.backfill(actor="host", on_progress=lambda *_: during.append(snapshot()))
    assert first.state == "done"
    during.append(snapshot())
    await firm.close()
    return structlog.contextvars.get_contextvars()

url = sys.argv[1]
engine = create_engine(url); migrate_schema(engine); engine.dispose()
with contextlib.redirect_stdout(sys.stderr):
    bound = asyncio.run(main(url))
json.dump({"before": before, "during": during, "after": snapshot(), "bound": bound}, sys.stdout)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_e15_runs_and_requests_in_a_host_change_nothing_global(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    ran = subprocess.run([sys.executable, "-c", HOST, url], env=env, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["after"] == told["before"]
    at_first, *others = told["during"]
    assert others
    for seen in others:
        assert seen == at_first
    assert told["bound"] == {"host": "mine"}
