"""What goes on while replicas die: people live in Clerk, admins edit through API and console, pages are kept open.

Each lane of changes owns its people, so that what must have happened in Clerk in the end is known exactly.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2

from tests.proof.fleet import MEMBERS, Fleet, Process, until
from tests.support.world import KEY

ADMIN, MEMBER = "org:admin", "org:member"
LANES = ("named", "raised", "paused", "moved")
MOST_WAITING = 40
MOST_INVITED = 90  # of an organization in a day
PAGE = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
PARTIAL = {"hx-request": "true", "hx-request-type": "partial"}


def seed(firms: int = 2, people: int = 4) -> dict[str, Any]:
    """Firms, each with Dana, who signs in, and `people` for each lane."""
    names = [f"{lane}{n}.{firm}" for firm in range(firms) for lane in LANES for n in range(people)]
    everyone = ["dana", *names]
    return {
        "settings": {"max_allowed_memberships": 0},
        "users": [{"email_address": f"{it}@firm.example", "first_name": it.title()} for it in everyone],
        "organizations": [
            {
                "name": f"Firm {firm}",
                "slug": f"firm-{firm}",
                "max_allowed_memberships": 0,
                "created_by": "dana@firm.example",
                "members": [{"user": "dana@firm.example", "role": ADMIN}]
                + [{"user": f"{it}@firm.example"} for it in names if it.endswith(f".{firm}")],
            }
            for firm in range(firms)
        ],
        "events": True,
    }


@dataclass
class Wish:
    """A change that somebody asked for. `effect` is what Clerk must show of it once, if it was done."""

    kind: str
    effect: tuple[str, ...]
    outcome: str = "asked"
    said: str = ""


@dataclass
class Watcher:
    """An open page: it listens to one replica, and comes back whenever the connection breaks."""

    process: Process
    path: str
    headers: dict[str, str]
    opened: int = 0
    changes: int = 0
    last: str = ""

    async def listen(self) -> None:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(5, read=None)) as http:
            while True:
                try:
                    async with http.stream("GET", f"{self.process.url}{self.path}", headers=self.headers) as answer:
                        self.last = f"status {answer.status_code}"
                        async for line in answer.aiter_lines():
                            self.opened += line == "event: ready"
                            self.changes += line == "event: change"
                except httpx2.HTTPError as error:
                    self.last = repr(error)
                await asyncio.sleep(0.05)


@dataclass
class Life:
    """The changes of one run. `firms` are Clerk's ids of the organizations."""

    fleet: Fleet
    rng: random.Random
    users: dict[str, str]
    firms: list[str]
    cookie: str
    wishes: list[Wish] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    moves: int = 0
    pace: float = 0.4
    is_over: bool = False
    is_paused: bool = False
    _numbers: Any = field(default_factory=lambda: count(1))
    _invited: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How much has ended well so far."""
        return self.moves + sum(it.outcome == "done" for it in self.wishes)

    @asynccontextmanager
    async def going_on(self) -> Any:
        """Everything goes on within, and each lane comes to its end after it."""
        watching = [asyncio.create_task(it.listen()) for it in self.watchers]
        ways = (self._named, self._raised, self._paused, self._invited_one, self._moved)
        every = [self._again_and_again(way, firm, number) for way in ways for number, firm in enumerate(self.firms)]
        every.append(self._again_and_again(self._made, self.firms[0], 0))
        lanes = [asyncio.create_task(lane) for lane in every]
        watching.append(asyncio.create_task(self._keep_pace()))
        try:
            yield lanes
            self.is_over = True
            await asyncio.gather(*lanes)
        finally:
            for task in (*lanes, *watching):
                task.cancel()
            await asyncio.gather(*lanes, *watching, return_exceptions=True)

    async def _keep_pace(self) -> None:
        """Clerk's webhooks go one after the other: nobody changes anything while too many are on their way."""
        while True:
            told = await self.fleet.desk("GET", "/deliveries?status=pending&limit=1")
            self.is_paused = told["total_count"] > MOST_WAITING
            await asyncio.sleep(0.5)

    async def _again_and_again(self, lane: Callable[[str, int], Awaitable[None]], firm: str, number: int) -> None:
        while not self.is_over:
            if self.is_paused:
                await asyncio.sleep(0.1)
                continue
            await lane(firm, number)
            await asyncio.sleep(self.rng.uniform(0, 2 * self.pace))

    def one_of(self, lane: str, firm: int) -> str:
        """Clerk's id of somebody of a lane."""
        return self.users[self.rng.choice([it for it in self.users if it.startswith(lane) and f".{firm}@" in it])]

    # What admins do

    async def _named(self, _firm: str, number: int) -> None:
        user, name = self.one_of("named", number), f"Name{next(self._numbers)}"
        await self.ask("name", ("name", user, name), "PATCH", f"/v1/users/{user}", {"first_name": name})

    async def _raised(self, firm: str, number: int) -> None:
        """Dana, in the console: a role in a row of the list."""
        user = self.one_of("raised", number)
        role = MEMBER if self._role_of(user) == ADMIN else ADMIN
        path, form = f"/organizations/{firm}/members/{user}/role", {"role": role, "key": f"form-{next(self._numbers)}"}
        await self._post_form(Wish("role", ("role", user, role)), path, form)

    def _role_of(self, user: str) -> str:
        said = [it.effect[2] for it in self.wishes if it.effect[:2] == ("role", user) and it.outcome == "done"]
        return said[-1] if said else MEMBER

    async def _paused(self, firm: str, number: int) -> None:
        user = self.one_of("paused", number)
        for what in ("deactivate", "reactivate"):
            await self.ask(what, (), "POST", f"/v1/organizations/{firm}/members/{user}/{what}", {})

    async def _invited_one(self, firm: str, _number: int) -> None:
        """Somebody is invited, and then invited again, taken back, or comes in."""
        if self._invited.get(firm, 0) > MOST_INVITED:
            await asyncio.sleep(0.5)
            return
        email = f"new{next(self._numbers)}@people.example"
        path = f"/v1/organizations/{firm}/invitations"
        made = await self.ask("invite", ("invited", email), "POST", path, {"email": email})
        self._invited[firm] = self._invited.get(firm, 0) + 2
        if made is None:
            return
        fate = self.rng.choice(("resend", "revoke", "accept", "wait"))
        if fate == "resend":
            await self.ask("resend", ("invited", email), "POST", f"{path}/{made}/resend", {})
        elif fate == "revoke":
            await self.ask("revoke", ("revoked", made), "POST", f"{path}/{made}/revoke", {})
        elif fate == "accept":
            link = (await self._answer("GET", f"{path}/{made}/link")).json()["url"]
            form = {"ticket": link.partition("ticket=")[2], "first_name": "New"}
            await self.fleet.http.post(link.partition("?")[0], data=form, headers=PAGE)
            self.moves += 1

    async def _made(self, _firm: str, _number: int) -> None:
        email = f"made{next(self._numbers)}@people.example"
        made = await self.ask("create", ("made", email), "POST", "/v1/users", {"email": email, "first_name": "Made"})
        if made is not None and self.rng.random() < 0.5:
            await self.ask("delete", ("deleted", email), "DELETE", f"/v1/users/{made}", None)

    # What happens in Clerk by itself

    async def _moved(self, firm: str, number: int) -> None:
        """Somebody comes, is changed, and perhaps goes again."""
        clerk, email = self.fleet.clerk, f"own{next(self._numbers)}@people.example"
        made = await clerk.post("/users", json={"email_address": [email], "first_name": "Own"})
        if not made.is_success:  # Clerk is out of order now and then
            return
        user = made.json()["id"]
        at = f"/organizations/{firm}/memberships"
        await clerk.post(at, json={"user_id": user, "role": MEMBER})
        await clerk.patch(f"/users/{user}", json={"first_name": f"Own{next(self._numbers)}"})
        await clerk.patch(f"{at}/{user}", json={"role": self.rng.choice((ADMIN, MEMBER))})
        fate = self.rng.choice(("leave", "delete", "stay", "stay"))
        if fate == "leave":
            await clerk.delete(f"{at}/{user}")
        elif fate == "delete":
            await clerk.delete(f"/users/{user}")
        moved = self.one_of("moved", number)
        await clerk.patch(f"/users/{moved}", json={"last_name": f"Moved{next(self._numbers)}"})
        self.moves += 1

    # How it is asked

    async def ask(self, kind: str, effect: tuple[str, ...], method: str, path: str, body: Any) -> str | None:
        """Ask through the API until the end is known; Clerk's id of what was made, None where it was refused."""
        wish = Wish(kind, effect)
        self.wishes.append(wish)
        key = f"wish-{next(self._numbers)}"
        answer = await self._answer(method, path, body, key)
        said = answer.json()
        if answer.status_code == 202 or (isinstance(said, dict) and said.get("is_open")):
            operation = said["operation"]
            wish.outcome = await self._end_of(operation["id"] if isinstance(operation, dict) else operation)
            answer = await self._answer(method, path, body, key) if wish.outcome == "done" else answer
            said = answer.json()
        else:
            wish.outcome = "done" if answer.is_success else "refused"
        wish.said = "" if answer.is_success else answer.text
        return said.get("clerk_id") or said.get("id") if answer.is_success else None

    async def _answer(self, method: str, path: str, body: Any = None, key: str = "") -> httpx2.Response:
        """The first answer that is one, whichever replica gives it; the same key all the time."""
        headers = {"authorization": f"Bearer {KEY}"} | ({"idempotency-key": key} if key else {})
        return await self._persist(lambda url: self._send(method, f"{url}{path}", headers, json=body))

    async def _post_form(self, wish: Wish, path: str, form: dict[str, str]) -> None:
        self.wishes.append(wish)
        headers = {"cookie": self.cookie, "origin": self.fleet.url, **PARTIAL}
        answer = await self._persist(lambda url: self._send("POST", f"{url}{path}", headers, data=form))
        told = json.loads(answer.headers.get("hx-trigger", "{}"))
        if "operation-watch" in told:
            wish.outcome = await self._end_of(told["operation-watch"]["url"].split("/")[-2])
        else:
            wish.outcome = "done" if answer.is_success else "refused"
        wish.said = "" if answer.is_success else str(told)

    async def _send(self, method: str, url: str, headers: dict[str, str], **more: Any) -> httpx2.Response:
        return await self.fleet.http.request(method, url, headers=headers, timeout=20, **more)

    async def _persist(self, send: Callable[[str], Awaitable[httpx2.Response]]) -> httpx2.Response:
        """Send until somebody answers; to the other replica after each failure."""
        first = self.rng.randrange(2)
        found: list[httpx2.Response] = []

        async def answered() -> bool:
            nonlocal first
            first = 1 - first
            try:
                answer = await send(self.fleet.serving[first].url)
            except httpx2.HTTPError:
                return False
            if answer.status_code < 500 or '"clerk_sync_failed"' in answer.text:  # Clerk's own failure, for good
                found.append(answer)
            return bool(found)

        await until(answered, "a replica answers", within=120)
        return found[0]

    async def _end_of(self, operation: str) -> str:
        """How an operation ends that goes on by itself."""
        state = "open"

        async def ended() -> bool:
            nonlocal state
            state = (await self._answer("GET", f"/v1/operations/{operation}")).json()["state"]
            return bool(state != "open")

        await until(ended, f"operation {operation} ends", within=240)
        return "done" if state == "settled" else state

    # Who looks on

    async def page_opens(self, process: Process) -> bool:
        """Whether Dana, signed in before, sees the list at this replica."""
        answer = await self._send(
            "GET", f"{process.url}{MEMBERS.format(self.firms[0])}", {"cookie": self.cookie, **PAGE}
        )
        return answer.status_code == 200 and "Dana" in answer.text


async def begin(fleet: Fleet, number: int) -> Life:
    """Dana signs in through Clerk, and opens the list of her firm at both replicas. `number` seeds what is random."""
    state = await fleet.desk("GET", "/state?limit=1000")
    users = {it["email_addresses"][0]["email_address"]: it["id"] for it in state["users"]}
    firms = [it["id"] for it in reversed(state["organizations"])]
    cookie = await sign_in(fleet, users["dana@firm.example"])
    life = Life(fleet, random.Random(number), users, firms, cookie)  # noqa: S311 (no secret)
    headers = {"cookie": life.cookie, "sec-fetch-site": "same-origin"}
    life.watchers = [Watcher(it, f"{MEMBERS.format(firms[0])}/live", headers) for it in fleet.serving]
    return life


async def sign_in(fleet: Fleet, user: str) -> str:
    """The way of a browser: our page, Clerk's sign-in page, and back; gives the cookie of our session."""
    jar: dict[str, str] = {}
    form: dict[str, str] = {}
    url, method = f"{fleet.url}/", "GET"
    for _ in range(20):
        headers = {**PAGE, "cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        answer = await fleet.http.request(method, url, headers=headers, data=form or None, follow_redirects=False)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            jar[name] = value
        if answer.is_redirect:
            url, method, form = str(answer.url.join(answer.headers["location"])), "GET", {}
        elif "instep_session" in jar:
            return f"instep_session={jar['instep_session']}"
        else:
            assert url.startswith(fleet.emulator.url), answer.text[:500]
            form = {"user_id": user, "redirect_url": answer.url.params["redirect_url"]}
            url, method = f"{fleet.emulator.url}/sign-in", "POST"
    raise AssertionError("an endless way to sign in")
