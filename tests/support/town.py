"""Two firms and everyone who may knock: for the tests of the doors."""

import asyncio
from dataclasses import dataclass
from typing import Any

from instep.auth.authenticator import SESSION_COOKIE
from instep.domain.models import SessionClaims
from tests.support.world import KEY, Firm

SEED: dict[str, Any] = {
    "users": [
        {"email_address": "dana@example.com", "first_name": "Dana"},
        {"email_address": "omar@example.com", "first_name": "Omar"},
        {"email_address": "rhea@example.com", "first_name": "Rhea"},
        {"email_address": "sam@example.com", "first_name": "Sam"},
        {"email_address": "ivy@example.com", "first_name": "Ivy", "public_metadata": {"role": "admin"}},
    ],
    "organizations": [
        {
            "name": "Northwind Law",
            "slug": "northwind",
            "members": [{"user": "dana@example.com", "role": "org:admin"}, {"user": "omar@example.com"}],
            "invitations": [{"email_address": "ada@example.com", "expires_at": "+4d"}],
        },
        {"name": "Southwind", "slug": "southwind", "members": [{"user": "rhea@example.com", "role": "org:admin"}]},
    ],
    "events": True,
}
PEOPLE = {
    "stranger": "sam@example.com",
    "other admin": "rhea@example.com",
    "member": "omar@example.com",
    "admin": "dana@example.com",
    "instance admin": "ivy@example.com",
}
WHO = ("nobody", *PEOPLE, "break-glass")
BROWSER = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@dataclass
class Answer:
    """How a door answered: all but the body of what never ends."""

    status: int
    headers: dict[str, str]


@dataclass
class Town:
    """A firm with everybody signed in; `keys` are the headers that each one sends."""

    firm: Firm
    keys: dict[str, dict[str, str]]

    async def knock(self, who: str, method: str, path: str, body: bytes = b"{}") -> Answer:
        """Send one request; the answer as soon as it begins, also of a channel that stays open."""
        headers = {"host": "127.0.0.1:8000", "content-type": "application/json", **BROWSER, **self.keys[who]}
        if method != "GET":
            headers["content-length"] = str(len(body))
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 8000),
        }
        begun: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sent = [{"type": "http.request", "body": b"" if method == "GET" else body, "more_body": False}]

        async def receive() -> Any:
            return sent.pop() if sent else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start" and not begun.done():
                begun.set_result(message)

        answering = asyncio.create_task(self.firm.app(scope, receive, send))
        await asyncio.wait([answering, begun], return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            await answering
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        start = begun.result()
        return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]})


async def settle(firm: Firm) -> Town:
    """Everyone moves in and signs in."""
    firm.emulator.seed(SEED)
    await firm.settle()
    keys = {"nobody": {}, "break-glass": {"authorization": f"Bearer {KEY}"}}
    for who, email in PEOPLE.items():
        claims = SessionClaims(user=firm.user_id(email), session=f"sess_{who.replace(' ', '_')}")
        keys[who] = {"cookie": f"{SESSION_COOKIE}={await firm.services.authenticator.sessions.open(claims)}"}
    return Town(firm, keys)
