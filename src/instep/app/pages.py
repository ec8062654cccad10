"""The console, put together: its doors, and the routes of all its pages."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from instep.access.attention import AttentionPages
from instep.access.console import Console
from instep.access.frame import Waiting
from instep.access.key_pages import KeyPages
from instep.access.palette import PalettePages
from instep.access.principal import Access
from instep.app import reference
from instep.app.finding import finder
from instep.app.wiring import Services, list_lost, make_deliveries, make_operations
from instep.audit.store import Kept
from instep.history.flows import Audit
from instep.history.pages import HistoryPages
from instep.history.store import count_attention, find_people, list_names
from instep.history.view import Reading, entry_row, ids_of
from instep.identity.roles import USUAL
from instep.inbox.pages import DeliveryPages, Who
from instep.inbox.store import count_parked
from instep.inbox.view import Event
from instep.invitations.acting import InvitationActs
from instep.invitations.application.pages import AppInvitationPages
from instep.invitations.crowd import ManyInvitations
from instep.invitations.pages import InvitationPages
from instep.journal.store import list_operations
from instep.kit.db import Conn
from instep.mirror.store import find_organization
from instep.people.acting import MemberPages
from instep.people.around import Around
from instep.people.many import ManyMembers
from instep.people.pages import PeoplePages
from instep.people.store import find_member, find_without_admin
from instep.profiles.detail_pages import DetailPages
from instep.profiles.pages import ProfilePages
from instep.sync.model import Freshness
from instep.sync.pages import SyncPages
from instep.sync.store import find_freshness
from instep.sync.words import warning


def page_routes(services: Services) -> list[Route]:
    """Every page, and what pages are made of."""
    console = make_console(services)
    history = HistoryPages(
        console=console, db=services.db, operations=make_operations(services), audit=Audit(services.db)
    )
    return [
        *people_pages(services, console).routes(),
        *invitation_pages(services, console).routes(),
        *many_members(services, console).routes(),
        *member_pages(services, console).routes(),
        *ManyInvitations(console=console, desk=services.invitations).routes(),
        *InvitationActs(console=console, desk=services.invitations).routes(),
        *AppInvitationPages(console=console, applications=services.invitations.applications).routes(),
        *history.routes(),
        *ProfilePages(console=console, profiles=services.profiles, roles=_usual_roles(services)).routes(),
        *DetailPages(console=console, profiles=services.profiles).routes(),
        *KeyPages(console=console, keys=services.keys, names=_names(services)).routes(),
        *PalettePages(console=console, people=finder(services)).routes(),
        *sync_pages(services, console).routes(),
        *delivery_pages(services, console).routes(),
        *AttentionPages(console=console, listen=services.live.listen).routes(),
        *services.access_pages.routes(),
        *services.pages.routes(),
    ]


def reference_route(services: Services, document: Callable[[], reference.Json]) -> Route:
    """GET /docs: the API described, for whoever asks."""

    @cache
    def made() -> tuple[str, str]:
        """Return the page, which is the same for everybody, and the nonce in it that each answer replaces."""
        nonce, found = secrets.token_urlsafe(16), reference.read(document())
        template = services.pages.environment.get_template("app/reference.html")
        known = {it.name for it in found.shapes}
        return template.render(frame=None, status=200, nonce=nonce, reference=found, known=known), nonce

    async def show(_request: Request) -> Response:
        (text, placeholder), nonce = made(), secrets.token_urlsafe(16)
        return HTMLResponse(text.replace(placeholder, nonce), headers=services.pages.policy.headers(nonce))

    return Route("/docs", show)


def make_console(services: Services) -> Console:
    """The doors to the pages, and what surrounds them."""

    async def attention(organization_id: str | None) -> int:
        return await services.db.read(count_attention, organization_id)

    async def notices() -> Waiting:
        parked, fresh = await services.db.read(_look_around)
        return Waiting(parked=parked, notice=warning(fresh, services.pages.words))

    return Console(
        pages=services.pages,
        principal=services.access_pages.require,
        access=services.access_pages.require_access,
        organizations=services.gate.accesses_of,
        attention=attention,
        notices=notices,
    )


def _look_around(conn: Conn) -> tuple[int, Freshness | None]:
    return count_parked(conn), find_freshness(conn)


def sync_pages(services: Services, console: Console) -> SyncPages:
    """The pages of sync."""
    syncing = services.syncing
    return SyncPages(console=console, asked=syncing.asked, names=_names(services), every=syncing.every)


def delivery_pages(services: Services, console: Console) -> DeliveryPages:
    """The page of deliveries."""

    async def people(words: str) -> list[Who]:
        found = await services.db.read(find_people, words, None)
        clerk_ids = {it.id: next((id for id in it.aliases if id.startswith("user_")), None) for it in found}
        return [Who(it.id, clerk_ids[it.id], it.name, it.email) for it in found]

    async def events(history: Sequence[Kept]) -> list[Event]:
        names = await services.db.read(list_names, ids_of(history))
        reading = Reading(names=names, base="", now=services.clock())
        rows = [entry_row(it, reading, services.pages.words, has_place=False) for it in history]
        return [Event(what=it.what, whom=it.whom, who=it.who, at=it.at) for it in rows]

    return DeliveryPages(
        console=console,
        deliveries=make_deliveries(services),
        people=people,
        names=_names(services),
        events=events,
    )


def people_pages(services: Services, console: Console) -> PeoplePages:
    """The page of the list."""

    async def adminless() -> list[tuple[str, str]]:
        return await services.db.read(find_without_admin)

    return PeoplePages(
        console=console,
        roles=_roles(services),
        list_people=services.members.list_people,
        live=_listener(services),
        around=_around(services),
        adminless=adminless,
        pauses=services.gate.pauses_of,
    )


def member_pages(services: Services, console: Console) -> MemberPages:
    """What is done with members from their rows."""
    policy = services.settings.instep_deactivation
    return MemberPages(console=console, members=services.members, roles=_roles(services), policy=policy)


def invitation_pages(services: Services, console: Console) -> InvitationPages:
    """The pages for inviting."""
    return InvitationPages(console=console, roles=_roles(services), invite=services.invite)


def many_members(services: Services, console: Console) -> ManyMembers:
    """What is done with many members at once."""

    def find(conn: Conn, organization_id: str, ids: Sequence[str]) -> dict[str, str]:
        found = {id: find_member(conn, organization_id, id) for id in ids}
        return {id: member.name for id, member in found.items() if member}

    async def names(access: Access, ids: Sequence[str]) -> dict[str, str]:
        return await services.db.read(find, access.organization_id, ids)

    return ManyMembers(console=console, members=services.members, roles=_roles(services), names=names)


def _roles(services: Services) -> Callable[[Access], list[tuple[str, str]]]:
    """The keys and names of an organization's roles, in the reader's language."""

    def options(access: Access) -> list[tuple[str, str]]:
        return [(key, services.pages.words.say(name)) for key, name in access.roles.options]

    return options


def _usual_roles(services: Services) -> dict[str, str]:
    """The names of the roles that Clerk comes with, for people of several organizations."""
    return {key: services.pages.words.say(name) for key, name in USUAL.items()}


def _names(services: Services) -> Callable[[Sequence[str]], Awaitable[dict[str, str]]]:
    async def names(ids: Sequence[str]) -> dict[str, str]:
        return await services.db.read(list_names, ids)

    return names


def _around(services: Services) -> Callable[[Access], Awaitable[Around]]:
    """What else an admin's list tells of its rows, read side by side."""

    async def around(access: Access) -> Around:
        lost, cooling, unfinished = await asyncio.gather(
            services.db.read(list_lost, access.organization_id),
            services.invitations.resend.list_cooling(access),
            services.db.read(
                list_operations, states=("open", "attention"), organization_id=access.organization_id, limit=200
            ),
        )
        return Around(
            lost=tuple(lost),
            cooling=cooling,
            under_way={it.target: it.state for it in unfinished},
        )

    return around


def _listener(services: Services) -> Callable[[str], AsyncIterator[str]]:
    """An organization's news: under our id from the mirror, under Clerk's from its invitations."""

    async def listen(organization_id: str) -> AsyncIterator[str]:
        found = await services.db.read(find_organization, organization_id)
        topics = [organization_id, found.clerk_id] if found and found.clerk_id else [organization_id]
        async for topic in services.live.listen(*topics):
            yield topic

    return listen
