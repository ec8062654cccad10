"""The demo stops at any moment, and never leaves its emulator behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from clerk_emulator.serve.server import PortInUseError, bind

SOON = 60  # seconds, for slow machines; what must not be said shows the fault
# A demo whose firm never arrives: it is still seeding for as long as the test wants.
SEEDING = "from instep.app import demo, cli; demo.demo_data.MEMBER_COUNT = 10**6; cli.app(['demo'])"


def free_port() -> int:
    """Return a port that nobody uses now."""
    with bind("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


class Demo:
    """A demo in a process group of its own, as a terminal starts it."""

    def __init__(self, folder: Path) -> None:
        self.emulator_port = free_port()
        self.folder = folder
        ports = {"INSTEP_PORT": str(free_port()), "CLERK_EMULATOR_PORT": str(self.emulator_port)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SEEDING],
            env={**os.environ, **ports, "INSTEP_DATA_DIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_until_seeding(self) -> None:
        """Wait until the emulator has the firm, which instep does not have yet."""
        url = f"http://127.0.0.1:{self.emulator_port}/_emulator/state"
        while self.process.poll() is None:
            try:
                if httpx2.get(url, timeout=5).json()["totals"]["organizations"]:
                    return
            except httpx2.HTTPError:
                time.sleep(0.05)
        raise AssertionError(f"it ended: {self.process.communicate()[0]}")

    def wait_until_emulator_listens(self) -> None:
        """Wait until the emulator answers, before anything is seeded."""
        while self.process.poll() is None:
            try:
                httpx2.get(f"http://127.0.0.1:{self.emulator_port}/_emulator/keys", timeout=5)
            except httpx2.HTTPError:
                time.sleep(0.01)
            else:
                return
        raise AssertionError(f"it ended: {self.process.communicate()[0]}")

    def emulator_has_ended(self) -> bool:
        """Wait until the emulator's port is free; return whether it was in time."""
        last = time.monotonic() + SOON
        while time.monotonic() < last:
            try:
                bind("127.0.0.1", self.emulator_port).close()
            except PortInUseError:
                time.sleep(0.05)
            else:
                return True
        return False


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Return a demo that has just been started; nothing of it is left afterwards."""
    demo = Demo(tmp_path / "demo")
    yield demo
    if demo.process.poll() is None:
        os.killpg(demo.process.pid, signal.SIGTERM)
        demo.process.wait(60)
    assert demo.process.stdout is not None
    demo.process.stdout.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_e16_the_demo_stops_while_it_is_seeding(demo: Demo, stop: signal.Signals) -> None:
    demo.wait_until_seeding()
    os.killpg(demo.process.pid, stop)
    printed, _ = demo.process.communicate(timeout=SOON)
    assert demo.process.returncode == 0
    assert "did not come" not in printed
    assert "Traceback" not in printed
    assert demo.emulator_has_ended()


def test_e16_the_demo_stops_while_it_is_starting(demo: Demo) -> None:
    demo.wait_until_emulator_listens()
    os.killpg(demo.process.pid, signal.SIGINT)
    printed, _ = demo.process.communicate(timeout=SOON)
    assert "Traceback" not in printed
    assert demo.emulator_has_ended()


def test_e16_the_emulator_ends_with_a_demo_that_is_killed(demo: Demo) -> None:
    demo.wait_until_seeding()
    demo.process.kill()
    demo.process.wait(SOON)
    assert demo.emulator_has_ended()


def test_e16_an_emulator_of_your_own_ends_with_its_standard_input() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "clerk_emulator", "serve", "--port", "0", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert "Clerk emulator on" in process.stdout.readline()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(SOON) == 0
