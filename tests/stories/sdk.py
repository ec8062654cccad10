"""A year at a firm, step by step, told through Clerk's official Python SDK and Clerk's accept page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from clerk_backend_api import Clerk
from clerk_backend_api.utils import BackoffStrategy, RetryConfig

from tests.support.world import Firm

NO_RETRIES = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False)
ADMIN, MEMBER = "org:admin", "org:member"


@contextlib.contextmanager
def sdk(firm: Firm, address: str) -> Iterator[Clerk]:
    """Clerk's SDK, pointed at the emulator."""
    key = firm.emulator.secret_key
    with Clerk(bearer_auth=key, server_url=f"{address}/v1", retry_config=NO_RETRIES, timeout_ms=10_000) as clerk:
        yield clerk


@dataclass
class Year:
    """What happened so far: ids by name."""

    firm: Firm
    clerk: Clerk
    ids: dict[str, str] = field(default_factory=dict)

    async def call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        """One call of the SDK, which is synchronous, beside the server that answers it."""
        return await asyncio.to_thread(method, **arguments)

    async def user(self, name: str, **more: Any) -> None:
        made = await self.call(
            self.clerk.users.create,
            email_address=[f"{name}@example.com"],
            first_name=name.capitalize(),
            skip_password_requirement=True,
            **more,
        )
        self.ids[name] = made.id

    async def join(self, name: str, role: str = MEMBER) -> None:
        await self.call(
            self.clerk.organization_memberships.create,
            organization_id=self.ids["firm"],
            user_id=self.ids[name],
            role=role,
        )

    async def leave(self, name: str) -> None:
        await self.call(
            self.clerk.organization_memberships.delete, organization_id=self.ids["firm"], user_id=self.ids[name]
        )

    async def found(self, key: str, name: str, by: str) -> None:
        request = {"name": name, "slug": key, "created_by": self.ids[by], "max_allowed_memberships": 10}
        self.ids[key] = (await self.call(self.clerk.organizations.create, request=request)).id

    async def invite(self, name: str, role: str = MEMBER) -> str:
        made = await self.call(
            self.clerk.organization_invitations.create,
            organization_id=self.ids["firm"],
            email_address=f"{name}@example.com",
            role=role,
            inviter_user_id=self.ids["dana"],
        )
        self.ids[f"invitation of {name}"] = made.id
        return str(made.url)

    async def accept(self, name: str, url: str) -> None:
        """Open the link of the mail, fill in the form, and press the button."""
        parts = urlsplit(url)
        browser = self.firm.browser()
        assert (await browser.get(f"{parts.path}?{parts.query}")).status_code == 200
        form = {"ticket": parse_qs(parts.query)["ticket"][0], "first_name": name.capitalize(), "last_name": "New"}
        assert (await browser.post(parts.path, data=form)).status_code < 400
        self.ids[name] = self.firm.user_id(f"{name}@example.com")


async def a_user_is_made(year: Year) -> None:
    await year.user("dana", last_name="Whitfield", public_metadata={"desk": 4})


async def an_organization_is_made(year: Year) -> None:
    await year.found("firm", "Northwind Law", "dana")


async def someone_is_invited_and_accepts(year: Year) -> None:
    await year.accept("ben", await year.invite("ben"))


async def someone_is_added_without_an_invitation(year: Year) -> None:
    await year.user("maya", username="maya", external_id="ext_7")
    await year.join("maya", ADMIN)


async def an_invitation_is_taken_back(year: Year) -> None:
    await year.invite("eve")
    await year.call(
        year.clerk.organization_invitations.revoke,
        organization_id=year.ids["firm"],
        invitation_id=year.ids["invitation of eve"],
        requesting_user_id=year.ids["dana"],
    )


async def a_name_changes(year: Year) -> None:
    await year.call(year.clerk.users.update, user_id=year.ids["maya"], first_name="Maja", last_name="Cohen")


async def metadata_change(year: Year) -> None:
    await year.call(year.clerk.users.update_metadata, user_id=year.ids["maya"], public_metadata={"role": "admin"})


async def an_address_changes(year: Year) -> None:
    await year.call(
        year.clerk.email_addresses.replace_for_user, user_id=year.ids["ben"], email_address="ben.new@example.com"
    )


async def a_role_changes(year: Year) -> None:
    await year.call(
        year.clerk.organization_memberships.update,
        organization_id=year.ids["firm"],
        user_id=year.ids["ben"],
        role=ADMIN,
    )


async def someone_is_banned(year: Year) -> None:
    await year.call(year.clerk.users.ban, user_id=year.ids["ben"])


async def the_organization_is_renamed(year: Year) -> None:
    await year.call(
        year.clerk.organizations.update,
        organization_id=year.ids["firm"],
        name="Northwind & Partners",
        max_allowed_memberships=0,
    )


async def someone_leaves_and_comes_back(year: Year) -> None:
    await year.leave("maya")
    await year.join("maya")


async def someone_leaves_for_good(year: Year) -> None:
    await year.leave("ben")


async def a_member_is_deleted(year: Year) -> None:
    await year.call(year.clerk.users.delete, user_id=year.ids["maya"])


async def an_old_address_goes_to_someone_new(year: Year) -> None:
    await year.user("maya")


async def another_organization_is_made_and_deleted(year: Year) -> None:
    await year.found("other", "Southwind", "dana")
    await year.call(year.clerk.organizations.delete, organization_id=year.ids["other"])


STEPS = (
    a_user_is_made,
    an_organization_is_made,
    someone_is_invited_and_accepts,
    someone_is_added_without_an_invitation,
    an_invitation_is_taken_back,
    a_name_changes,
    metadata_change,
    an_address_changes,
    a_role_changes,
    someone_is_banned,
    the_organization_is_renamed,
    someone_leaves_and_comes_back,
    someone_leaves_for_good,
    a_member_is_deleted,
    an_old_address_goes_to_someone_new,
    another_organization_is_made_and_deleted,
)


@contextlib.asynccontextmanager
async def year_at(firm: Firm) -> AsyncIterator[Year]:
    """A year that can begin."""
    async with firm.port() as address:
        with sdk(firm, address) as clerk:
            yield Year(firm, clerk)
