"""What the emulator has acknowledged survives `kill -9` where it keeps its state in a file."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

from clerk_emulator.serve.server import bind

SOON = 60  # seconds, for slow machines


@dataclass
class Served:
    """A running `clerk-emulator serve --state`; `http` calls its Backend API."""

    process: subprocess.Popen[str]
    http: httpx2.Client

    def kill(self) -> None:
        """End it without any notice."""
        self.process.kill()
        self.process.wait(SOON)


@contextmanager
def served(file: Path) -> Iterator[Served]:
    """Serve the state in a file until the end, or until it is killed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLERK_")}
    with subprocess.Popen(
        [sys.executable, "-m", "clerk_emulator", "serve", "--port", "0", "--state", str(file), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        lines = [process.stdout.readline() for _ in range(3)]
        values = dict(line.split("=", 1) for line in "".join(lines).split() if line.startswith("CLERK_"))
        headers = {"Authorization": f"Bearer {values['CLERK_SECRET_KEY']}"}
        with httpx2.Client(base_url=values["CLERK_API_URL"], headers=headers, timeout=SOON) as http:
            yield Served(process, http)
        process.stdin.close()
        process.wait(SOON)


@dataclass
class Application:
    """An application that gets webhooks."""

    got: list[tuple[str, str]] = field(default_factory=list)  # svix-id and type
    came: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        """Take webhooks on a port."""
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                application.got.append((self.headers["svix-id"], event["type"]))
                self.send_response(204)
                self.end_headers()
                application.came.set()

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield
            server.shutdown()
            thread.join(SOON)


def test_i7_an_acknowledged_write_is_there_after_the_emulator_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    made: list[str] = []
    for number in range(3):
        with served(file) as emulator:
            assert [user["id"] for user in emulator.http.get("/v1/users?order_by=created_at").json()] == made
            body = {"email_address": [f"u{number}@example.com"]}
            made.append(emulator.http.post("/v1/users", json=body).json()["id"])
            emulator.kill()


def test_i7_a_changed_setting_and_an_accepted_invitation_are_there_too(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    with served(file) as emulator:
        link = emulator.http.post("/v1/invitations", json={"email_address": "ada@example.com"}).json()["url"]
        emulator.http.post("/_emulator/settings", json={"max_allowed_memberships": 7})
        emulator.http.post(link.partition("?")[0], data={"ticket": link.partition("ticket=")[2]})
        emulator.kill()
    with served(file) as emulator:
        assert emulator.http.get("/_emulator/settings").json()["max_allowed_memberships"] == 7
        assert [one["status"] for one in emulator.http.get("/v1/invitations").json()] == ["accepted"]
        assert emulator.http.get("/v1/users/count").json()["total_count"] == 1


def test_i7_a_webhook_that_was_not_delivered_yet_is_delivered_afterwards(tmp_path: Path) -> None:
    file, application = tmp_path / "state.json", Application()
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    with served(file) as emulator:
        emulator.http.post("/_emulator/endpoints", json={"url": f"http://127.0.0.1:{port}/"})
        emulator.http.post("/v1/users", json={"email_address": ["ada@example.com"]})
        told = [one["message_id"] for one in emulator.http.get("/_emulator/deliveries").json()["data"]]
        emulator.kill()
    with application.listening(port), served(file) as emulator:
        emulator.http.post("/_emulator/clock/advance", json={"minutes": 1})
        assert application.came.wait(SOON)
        assert emulator.http.post("/_emulator/deliveries/drain").json()["waiting"] == 0
    assert application.got == [(told[0], "user.created")]
