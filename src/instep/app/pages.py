"""The console, put together: its doors, and the routes of all its pages."""

from collections.abc import AsyncIterator, Callable

from starlette.routing import Route

from instep.access.console import Console
from instep.app.wiring import Services, make_operations
from instep.history.flows import Audit
from instep.history.pages import HistoryPages
from instep.history.store import count_attention
from instep.invitations.pages import InvitationPages
from instep.invitations.rules import ROLES
from instep.mirror.store import find_organization
from instep.people.pages import PeoplePages


def page_routes(services: Services) -> list[Route]:
    """Every page, and what pages are made of."""
    console = make_console(services)
    history = HistoryPages(
        console=console, db=services.db, operations=make_operations(services), audit=Audit(services.db)
    )
    return [
        *people_pages(services, console).routes(),
        *invitation_pages(services, console).routes(),
        *history.routes(),
        *services.access_pages.routes(),
        *services.pages.routes(),
    ]


def make_console(services: Services) -> Console:
    """The doors to the pages, and what surrounds them."""

    async def attention(organization_id: str | None) -> int:
        return await services.db.read(count_attention, organization_id)

    return Console(
        pages=services.pages,
        principal=services.access_pages.require,
        access=services.access_pages.require_access,
        organizations=services.gate.accesses_of,
        attention=attention,
    )


def people_pages(services: Services, console: Console) -> PeoplePages:
    """The pages of the list."""
    return PeoplePages(console=console, roles=ROLES, list_people=services.members.list_people, live=_listener(services))


def invitation_pages(services: Services, console: Console) -> InvitationPages:
    """The pages for inviting."""
    return InvitationPages(console=console, roles=ROLES, invite=services.invite)


def _listener(services: Services) -> Callable[[str], AsyncIterator[str]]:
    """An organization's news: under our id from the mirror, under Clerk's from its invitations."""

    async def listen(organization_id: str) -> AsyncIterator[str]:
        found = await services.db.read(find_organization, organization_id)
        topics = [organization_id, found.clerk_id] if found and found.clerk_id else [organization_id]
        async for topic in services.live.listen(*topics):
            yield topic

    return listen
