"""Three Clerks on which the same promises are tested: in memory, emulated, and, with a key, Clerk itself."""

import os
import uuid
from typing import Any, Protocol

import httpx2

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock as EmulatorClock
from instep.clerk.client import ClerkClient
from instep.clerk.fake import FakeClerk
from instep.core.clock import now
from instep.domain.models import ADMIN_ROLE, ClerkId, ClerkOrganization, ClerkSession, ClerkUser
from tests.support.clocks import Ticking

REAL_KEY = "CLERK_CONTRACT_SECRET_KEY"


class Stage(Protocol):
    """One Clerk, and how its scene is set. `can_wait`: time can be moved; `can_accept`: somebody presses the button."""

    clerk: Any
    can_wait: bool
    can_accept: bool

    async def user(self, name: str) -> ClerkId: ...

    async def organization(self, admin: ClerkId, *, seats: int | None = None) -> ClerkId: ...

    async def session(self, user: ClerkId) -> str: ...

    async def accept(self, organization: ClerkId, invitation: ClerkId, user: ClerkId) -> None: ...

    def wait(self, milliseconds: int) -> None: ...

    def address(self, name: str) -> str: ...

    async def close(self) -> None: ...


class InMemory:
    """The shipped fake."""

    can_wait = can_accept = True

    def __init__(self) -> None:
        self.clock = Ticking()
        self.clerk = FakeClerk(self.clock)
        self._made = 0

    def address(self, name: str) -> str:
        return f"{name}@example.com"

    async def user(self, name: str) -> ClerkId:
        made = ClerkUser(clerk_id=ClerkId(f"user_{name}"), email=self.address(name), is_email_verified=True)
        return self.clerk.put_user(made).key.id

    async def organization(self, admin: ClerkId, *, seats: int | None = None) -> ClerkId:
        self._made += 1
        made = ClerkOrganization(clerk_id=ClerkId(f"org_{self._made}"), name="Northwind Law", max_members=seats)
        self.clerk.put_organization(made)
        self.clerk.join(made.clerk_id, admin, ADMIN_ROLE)
        return made.clerk_id

    async def session(self, user: ClerkId) -> str:
        self.clerk.put_session(ClerkSession("sess_1", user, "active"))
        return "sess_1"

    async def accept(self, organization: ClerkId, invitation: ClerkId, user: ClerkId) -> None:
        self.clerk.accept(invitation, user)

    def wait(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)

    async def close(self) -> None:
        return


class Backend:
    """What the emulator and Clerk have in common: a Backend API that is told the scene."""

    can_wait = can_accept = False

    def __init__(self, key: str, url: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.clerk = ClerkClient(key, api_url=url, transport=transport)
        headers = {"authorization": f"Bearer {key}"}
        self.http = httpx2.AsyncClient(base_url=f"{url}/v1", headers=headers, transport=transport, timeout=20)
        self.run = uuid.uuid4().hex[:8]
        self._users: list[str] = []
        self._organizations: list[str] = []

    def address(self, name: str) -> str:
        return f"{name}.{self.run}+clerk_test@example.com"

    async def user(self, name: str) -> ClerkId:
        body = {"email_address": [self.address(name)], "skip_password_requirement": True}
        self._users.append((await self._send("POST", "/users", body))["id"])
        return ClerkId(self._users[-1])

    async def organization(self, admin: ClerkId, *, seats: int | None = None) -> ClerkId:
        body = {"name": f"Northwind {self.run}", "created_by": admin, "max_allowed_memberships": seats or 0}
        self._organizations.append((await self._send("POST", "/organizations", body))["id"])
        return ClerkId(self._organizations[-1])

    async def session(self, user: ClerkId) -> str:
        return str((await self._send("POST", "/sessions", {"user_id": user}))["id"])

    async def accept(self, organization: ClerkId, invitation: ClerkId, user: ClerkId) -> None:
        raise NotImplementedError

    def wait(self, milliseconds: int) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Leave nothing behind."""
        for path in [*(f"/organizations/{id}" for id in self._organizations), *(f"/users/{id}" for id in self._users)]:
            await self.http.delete(path)
        await self.http.aclose()
        await self.clerk.close()

    async def _send(self, method: str, path: str, body: Any) -> Any:
        response = await self.http.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json()


class Emulated(Backend):
    """The emulator, in process."""

    can_wait = can_accept = True

    def __init__(self) -> None:
        self.clock = Ticking()
        self.emulator = Emulator(clock=EmulatorClock(wall=self.clock), id_seed=7)
        transport = httpx2.ASGITransport(app=self.emulator)
        super().__init__(self.emulator.secret_key, "http://127.0.0.1:8001", transport)

    async def accept(self, organization: ClerkId, invitation: ClerkId, user: ClerkId) -> None:
        link = await self.clerk.find_accept_url(organization, invitation)
        assert link is not None
        page = httpx2.URL(link)
        form = {"ticket": page.params["ticket"]}
        transport = httpx2.ASGITransport(app=self.emulator)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as browser:
            assert (await browser.post(page.path, data=form)).status_code < 400

    def wait(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)


class Real(Backend):
    """A development instance of Clerk's, made for this: its mails go to addresses that send nothing."""

    def __init__(self) -> None:
        key = os.environ[REAL_KEY]
        assert key.startswith("sk_test_"), "never on a production instance"
        super().__init__(key, "https://api.clerk.com")
        self.began = now()
