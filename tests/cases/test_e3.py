"""E3: requests that are never finished keep nobody else out, and are ended."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.flood import LIVE, OK, ask, flood, holding
from tests.support.served import served

pytestmark = pytest.mark.anyio

SHORT: dict[str, Any] = {"INSTEP_HEADER_TIMEOUT": "2", "INSTEP_BODY_TIMEOUT": "2"}


async def test_e3_half_requests_keep_nobody_out_and_are_ended(sqlite_migrated_url: str, tmp_path: Path) -> None:
    """With 256 descriptors, fewer than the connections that are held."""
    with served(sqlite_migrated_url, tmp_path, files=256, **SHORT) as server:
        seen = await flood(server.port, half_open=280, slow_bodies=40, seconds=6)
        assert not seen.failures, f"{seen}\n{server.log}"
        assert len(seen.answers) >= 5
        assert len(seen.lives) >= 320, "every one was ended, though nobody but the server would have"
        assert (await ask(server.port, LIVE)).startswith(OK)
        assert "Traceback" not in server.log


async def test_e3_below_the_limit_each_lives_as_long_as_the_settings_say(
    sqlite_migrated_url: str, tmp_path: Path
) -> None:
    with served(sqlite_migrated_url, tmp_path, **SHORT) as server:
        async with holding(server.port, half_open=150, slow_bodies=20, seconds=1) as seen:
            assert (await ask(server.port, LIVE)).startswith(OK)
        assert len(seen.lives) >= 170
        assert min(seen.lives) >= 1.5, "nobody was ended to make room"
        assert "connection_limit_reached" not in server.log


async def test_e3_an_anonymous_upload_is_answered_and_not_taken_in(sqlite_migrated_url: str, tmp_path: Path) -> None:
    head = b"POST /v1/users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 200000000\r\n\r\n"
    with served(sqlite_migrated_url, tmp_path) as server:
        before = memory_kb(server.pid)
        for _ in range(5):
            answer = await ask(server.port, head + b" " * 1_000_000)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"connection: close" in answer
        assert memory_kb(server.pid) - before < 10 * 1024


def memory_kb(pid: int) -> int:
    """The resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
