"""A second look at what a list did not show: only Clerk's definite word about the thing itself makes it absent."""

import asyncio
from collections.abc import Sequence

from instep.clerk.pages import Pages
from instep.identity.model import Key, Membership
from instep.identity.ports import ProviderRefused
from instep.identity.rules import AskAgain

LANES = 8


async def find_absent(pages: Pages, asks: Sequence[AskAgain]) -> set[Key]:
    """Those that Clerk does not have: a 404 for a user or an organization; for a membership both its sides' lists.

    A membership whose sides we do not know is never called absent.
    """
    lanes = asyncio.Semaphore(LANES)

    async def look(ask: AskAgain) -> bool:
        async with lanes:
            return await _is_absent(pages, ask)

    found = await asyncio.gather(*(look(ask) for ask in asks))
    return {ask.key for ask, is_absent in zip(asks, found, strict=True) if is_absent}


async def _is_absent(pages: Pages, ask: AskAgain) -> bool:
    if ask.key.kind != "membership":
        return not await _is_there(pages, f"{ask.key.kind}s/{ask.key.id}")
    if not isinstance(ask.entity, Membership):
        return False
    organization, user = ask.entity.organization, ask.entity.user
    of_user = f"users/{user}/organization_memberships"
    of_organization = f"organizations/{organization}/memberships"
    if await _is_listed(pages, of_organization, ask.key, user):
        return False
    return not await _is_listed(pages, of_user, ask.key, None)


async def _is_there(pages: Pages, path: str) -> bool:
    try:
        await pages.get(path, [])
    except ProviderRefused as error:
        if error.status != 404:
            raise
        return False
    return True


async def _is_listed(pages: Pages, path: str, key: Key, user: str | None) -> bool:
    """Whether a list shows this membership; a list whose owner Clerk does not have shows none.

    One that is longer than a page is not looked through: then nothing is said to be absent.
    """
    try:
        listed = await pages.memberships([("limit", 500), *([("user_id", user)] if user else [])], path=path)
    except ProviderRefused as error:
        if error.status != 404:
            raise
        return False
    is_partial = len(listed.items) < (listed.total or 0)
    return is_partial or any(it.key == key for it in listed.items)
