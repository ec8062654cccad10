"""The `clerk-emulator` command."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from clerk_emulator import cli
from clerk_emulator.serve.server import bind


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the command until its startup message, and return the printed variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLERK_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "clerk_emulator", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        yield process, dict(re.findall(r"(CLERK_\w+)=(\S+)", "".join(lines)))
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert "Traceback" not in rest


def test_serve_uses_the_printed_keys_and_saves_the_state(tmp_path: Path) -> None:
    file, seed = tmp_path / "state.json", tmp_path / "seed.json"
    seed.write_text('{"users": [{"email_address": "ada@example.com"}]}')
    with running("--state", str(file), "--seed", str(seed)) as (_, first):
        headers = {"Authorization": f"Bearer {first['CLERK_SECRET_KEY']}"}
        with httpx2.Client(base_url=first["CLERK_API_URL"], headers=headers) as http:
            assert http.get("/v1/users/count").json()["total_count"] == 1
            http.post("/v1/users", json={"email_address": ["bo@example.com"]})
    with running("--state", str(file), "--seed", str(seed)) as (_, second):
        assert second["CLERK_SECRET_KEY"] == first["CLERK_SECRET_KEY"]
        with httpx2.Client(base_url=second["CLERK_API_URL"], headers=headers) as http:
            assert http.get("/v1/users/count").json()["total_count"] == 2


def test_a_port_in_use_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SystemExit) as stopped:
            cli.main(["serve", "--port", str(port)])
    assert stopped.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"127.0.0.1:{port}" in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [["--secret-key", "sk_live_x"], ["--seed", "/nonexistent/seed.json"], ["--state", "/dev/null/state.json"]],
)
def test_invalid_arguments_are_reported_in_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["serve", "--port", "0", *arguments])
    assert stopped.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_serve_accepts_known_profiles_only(capsys: pytest.CaptureFixture[str]) -> None:
    with running("--profile", "minimal") as (_, keys):
        settings = httpx2.get(f"{keys['CLERK_API_URL']}/_emulator/settings").json()
        assert (settings["profile"], settings["omitted"]) == ("minimal", ["*"])
    with pytest.raises(SystemExit):
        cli.main(["serve", "--profile", "tiny"])
    assert "minimal" in capsys.readouterr().err
