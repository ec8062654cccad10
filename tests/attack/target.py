"""The installation under attack: Clerk's emulator and one `instep serve`, as processes of their own on one database."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.processes import free_port
from tests.proof.fleet import PATHS, Process, publishable_key, until
from tests.support.svix import SECRET
from tests.support.town import PEOPLE, SEED
from tests.support.world import KEY

SECRET_KEY = "sk_test_the_key_of_this_attack_and_of_no_other"
BREAK_GLASS = {"authorization": f"Bearer {KEY}"}
STARTING = 60.0  # seconds


@dataclass
class Report:
    """The outcome of one attack: how many requests of each kind were sent, and every wrong answer."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, kind: str, number: int = 1) -> None:
        """Add to the number of requests, or answers, of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + number

    def expect(self, is_right: bool, description: str) -> None:
        """Record a wrong answer unless `is_right`."""
        if not is_right:
            self.wrong.append(description)

    def judge(self, answer: httpx2.Response, what: str) -> None:
        """Count an answer by its status; every status of 500 and above is wrong."""
        self.count(f"{answer.status_code // 100}xx")
        self.expect(answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:200]}")


@dataclass
class Target:
    """A running installation: its address, the emulator's, a client for each, and the key that signs tokens."""

    url: str
    clerk_url: str
    http: httpx2.AsyncClient
    clerk: httpx2.AsyncClient
    private_key: RSAPrivateKey
    serve: Process
    kid: str = ""
    users: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send one request without credentials of its own."""
        return await self.http.request(method, f"{self.url}{path}", **options)

    async def bearer_of(self, who: str) -> dict[str, str]:
        """Return the headers of one of PEOPLE, with a session token that Clerk has just made; none for nobody."""
        if who == "nobody":
            return {}
        if who == "break-glass":
            return BREAK_GLASS
        session = (await self._backend("POST", "/sessions", {"user_id": self.users[who]}))["id"]
        token = (await self._backend("POST", f"/sessions/{session}/tokens", {}))["jwt"]
        return {"authorization": f"Bearer {token}"}

    async def cookie_of_break_glass(self) -> str:
        """Sign in to the console with the break-glass key and return the Cookie header of that session."""
        form = {"key": KEY}
        headers = {"origin": self.url, "sec-fetch-site": "same-origin"}
        answer = await self.call("POST", "/sign-in/key", data=form, headers=headers)
        assert answer.status_code == 303, answer.text
        cookies = [line.partition(";")[0] for line in answer.headers.get_list("set-cookie")]
        return "; ".join(cookies)

    async def state(self) -> Any:
        """Return everything that the emulator holds."""
        return (await self.clerk.get(f"{self.clerk_url}/_emulator/state")).json()

    async def is_drained(self) -> bool:
        """Return whether no delivery waits to be processed."""
        answer = await self.call("GET", "/v1/deliveries?state=new&state=waiting&limit=1", headers=BREAK_GLASS)
        return answer.is_success and not answer.json()["deliveries"]

    async def _backend(self, method: str, path: str, body: Any) -> Any:
        answer = await self.clerk.request(method, f"{self.clerk_url}/v1{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()


@asynccontextmanager
async def target(folder: Path, database_url: str) -> AsyncIterator[Target]:
    """Start an installation on an empty, migrated database, with the people of `tests.support.town` in it."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    clerk_port, port = free_port(), free_port()
    clerk_url, url = f"http://127.0.0.1:{clerk_port}", f"http://127.0.0.1:{port}"
    emulator = Process("clerk", _emulator(folder, key, clerk_port), PATHS, folder, clerk_url)
    serve = Process(
        "serve", [sys.executable, "-m", "tests.proof.replica", "serve"], _env(database_url, url, clerk_url), folder, url
    )
    limits = httpx2.Limits(max_connections=64)
    no_jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    async with (
        httpx2.AsyncClient(limits=limits, timeout=30, cookies=no_jar) as http,
        httpx2.AsyncClient(headers={"authorization": f"Bearer {SECRET_KEY}"}, timeout=30) as clerk,
    ):
        found = Target(url, clerk_url, http, clerk, key, serve)
        try:
            emulator.start()
            await _answers(http, emulator, "/_emulator/keys")
            serve.start()
            await _answers(http, serve, "/health/ready")
            await _furnish(found)
            yield found
        finally:
            for process in (serve, emulator):
                process.tell_to_end()
            for process in (serve, emulator):
                process.wait()


async def _furnish(found: Target) -> None:
    """Connect the webhook, fill the emulator, and wait until everybody is in the mirror."""
    endpoint = {"url": f"{found.url}/webhooks/clerk", "secret": SECRET}
    assert (await found.clerk.post(f"{found.clerk_url}/_emulator/endpoints", json=endpoint)).is_success
    assert (await found.clerk.post(f"{found.clerk_url}/_emulator/seed", json=SEED)).is_success
    state = await found.state()
    addresses = {user["email_addresses"][0]["email_address"]: user["id"] for user in state["users"]}
    found.users = {who: addresses[email] for who, email in PEOPLE.items()}
    found.kid = (await found._backend("GET", "/jwks", None))["keys"][0]["kid"]

    async def is_mirrored() -> bool:
        answer = await found.call("GET", "/v1/users", headers=BREAK_GLASS)
        return answer.is_success and len(answer.json()["data"]) >= len(SEED["users"]) and await found.is_drained()

    await until(is_mirrored, "the people are in the mirror", within=STARTING)


async def _answers(http: httpx2.AsyncClient, process: Process, path: str) -> None:
    async def is_up() -> bool:
        assert process.is_alive, f"{process.name} ended:\n{process.log[-2_000:]}"
        try:
            return (await http.get(f"{process.url}{path}", timeout=2)).is_success
        except httpx2.HTTPError:
            return False

    await until(is_up, f"{process.name} answers", within=STARTING)


def _emulator(folder: Path, key: RSAPrivateKey, port: int) -> list[str]:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    pinned = {"keys": {"private_key": pem}}
    (folder / "keys.json").write_text(json.dumps(pinned))
    command = [sys.executable, "-m", "clerk_emulator", "serve", "--port", str(port)]
    command += ["--seed", str(folder / "keys.json"), "--secret-key", SECRET_KEY]
    return [*command, "--publishable-key", publishable_key(f"http://127.0.0.1:{port}")]


def _env(database_url: str, url: str, clerk_url: str) -> dict[str, str]:
    return {
        **PATHS,
        "INSTEP_DATABASE_URL": database_url,
        "INSTEP_PUBLIC_URL": url,
        "INSTEP_PORT": url.rpartition(":")[2],
        "INSTEP_ADMIN_KEY": KEY,
        "INSTEP_SYNC_EVERY": "0",
        "INSTEP_LOG_JSON": "true",
        "INSTEP_RATE_LIMIT": "off",  # one principal sends everything here; the limit has tests of its own
        "CLERK_API_URL": clerk_url,
        "CLERK_FRONTEND_API_URL": clerk_url,
        "CLERK_SECRET_KEY": SECRET_KEY,
        "CLERK_PUBLISHABLE_KEY": publishable_key(clerk_url),
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
    }
