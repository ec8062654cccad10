"""Assemble the console's page routes and their dependencies."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from instep.app import openapi
from instep.app.container import Services, make_deliveries, make_operations
from instep.audit.entries import AuditEntryRow
from instep.audit.pages import OperationAndAuditPages
from instep.audit.service import AuditService
from instep.audit.views import collect_ids, make_audit_entry_view
from instep.auth.principal import OrganizationAccess, Principal
from instep.console.attention_pages import AttentionPages
from instep.console.key_pages import ApiKeyPages
from instep.console.labels import LabelContext, find_people, list_names
from instep.console.layout import AttentionSummary, get_organization_path
from instep.console.palette import MAX_COMMANDS_PER_GROUP, PaletteCommand, PalettePages
from instep.console.responses import PageResponder
from instep.core.db import Conn
from instep.domain.roles import DEFAULT_ROLE_NAMES
from instep.invitations.action_pages import BulkInvitationPages, InvitationActionPages
from instep.invitations.pages import ApplicationInvitationPages, InvitationPages
from instep.invitations.repository import list_lost_invitations
from instep.members.action_pages import BulkMemberPages, MemberActionPages
from instep.members.models import MEMBER_STATUSES, MemberFilter, MemberRow, RowAnnotations
from instep.members.pages import MemberListPages
from instep.members.repository import find_member, find_organizations_without_admin
from instep.members.views import format_member_name
from instep.mirror.repository import find_organization
from instep.mirror.user_repository import UserRow
from instep.operations.repository import count_operations_needing_attention, list_operations
from instep.sync.messages import describe_freshness
from instep.sync.models import Freshness
from instep.sync.pages import SyncPages
from instep.sync.repository import find_freshness
from instep.users.models import UserFilter as UsersAsk
from instep.users.pages import UserDetailPages, UserPages
from instep.webhooks.pages import DeliveryPages, DeliveryPersonMatch
from instep.webhooks.repository import count_failed
from instep.webhooks.views import DeliveryAuditView


def make_palette_search(
    services: Services,
) -> Callable[[OrganizationAccess | Principal, str], Awaitable[list[PaletteCommand]]]:
    """The people that some words mean: of the organization first; for instance admins everyone."""

    async def within(access: OrganizationAccess, text: str) -> dict[str, PaletteCommand]:
        ask = MemberFilter(limit=MAX_COMMANDS_PER_GROUP, query=text, statuses=frozenset(MEMBER_STATUSES))
        listed = (await services.members.list_people(access, ask)).rows
        home = get_organization_path(access)
        rows = [it for it in listed if isinstance(it, MemberRow)]
        return {
            it.user_id: _build_person_command(format_member_name(it), it, f"{home}/members/{it.user_id}") for it in rows
        }

    async def find(asker: OrganizationAccess | Principal, text: str) -> list[PaletteCommand]:
        principal = asker.principal if isinstance(asker, OrganizationAccess) else asker
        found = await within(asker, text) if isinstance(asker, OrganizationAccess) else {}
        if principal.is_instance_admin and len(found) < MAX_COMMANDS_PER_GROUP:
            users = await services.profiles.users.list(principal, UsersAsk(limit=MAX_COMMANDS_PER_GROUP, query=text))
            others = [it.person for it in users.rows if it.person.id not in found]
            found |= {it.id: _build_person_command(it.name, it, f"/users/{it.id}") for it in others}
        return list(found.values())

    return find


def _build_person_command(name: str, it: MemberRow | UserRow, href: str) -> PaletteCommand:
    name, email = name or it.email or "", it.email or ""
    return PaletteCommand(
        name=name,
        icon="users",
        detail=email if email != name else "",
        href=href,
        is_dialog=True,
        avatar="person",
        image_url=it.image_url,
    )


def make_page_routes(services: Services) -> list[Route]:
    """Every page, and what pages are made of."""
    console = make_page_responder(services)
    history = OperationAndAuditPages(
        console=console, db=services.db, operations=make_operations(services), audit=AuditService(services.db)
    )
    return [
        *make_member_list_pages(services, console).routes(),
        *make_invitation_pages(services, console).routes(),
        *make_bulk_member_pages(services, console).routes(),
        *make_member_action_pages(services, console).routes(),
        *BulkInvitationPages(console=console, desk=services.invitations).routes(),
        *InvitationActionPages(console=console, desk=services.invitations).routes(),
        *ApplicationInvitationPages(console=console, applications=services.invitations.applications).routes(),
        *history.routes(),
        *UserPages(console=console, profiles=services.profiles, roles=_get_default_role_names(services)).routes(),
        *UserDetailPages(console=console, profiles=services.profiles).routes(),
        *ApiKeyPages(console=console, keys=services.keys, names=_make_name_lookup(services)).routes(),
        *PalettePages(console=console, people=make_palette_search(services)).routes(),
        *make_sync_pages(services, console).routes(),
        *make_delivery_pages(services, console).routes(),
        *AttentionPages(console=console, listen=services.live.listen).routes(),
        *services.sign_in_pages.routes(),
        *services.pages.routes(),
    ]


def make_reference_route(services: Services, document: Callable[[], openapi.Json]) -> Route:
    """GET /docs: the API described, for whoever asks."""

    @cache
    def made() -> tuple[str, str]:
        """Return the page, which is the same for everybody, and the nonce in it that each answer replaces."""
        nonce, found = secrets.token_urlsafe(16), openapi.build_reference(document())
        template = services.pages.environment.get_template("app/reference.html")
        known = {it.name for it in found.shapes}
        return template.render(frame=None, status=200, nonce=nonce, reference=found, known=known), nonce

    async def show(_request: Request) -> Response:
        (text, placeholder), nonce = made(), secrets.token_urlsafe(16)
        return HTMLResponse(text.replace(placeholder, nonce), headers=services.pages.policy.headers(nonce))

    return Route("/docs", show)


def make_page_responder(services: Services) -> PageResponder:
    """The doors to the pages, and what surrounds them."""

    async def attention(organization_id: str | None) -> int:
        return await services.db.read(count_operations_needing_attention, organization_id)

    async def notices() -> AttentionSummary:
        parked, fresh = await services.db.read(_read_attention)
        return AttentionSummary(parked=parked, notice=describe_freshness(fresh, services.pages.words))

    return PageResponder(
        pages=services.pages,
        principal=services.sign_in_pages.require_principal,
        access=services.sign_in_pages.require_access,
        organizations=services.gate.list_accesses,
        attention=attention,
        notices=notices,
    )


def _read_attention(conn: Conn) -> tuple[int, Freshness | None]:
    return count_failed(conn), find_freshness(conn)


def make_sync_pages(services: Services, console: PageResponder) -> SyncPages:
    """The pages of sync."""
    syncing = services.syncing
    return SyncPages(console=console, asked=syncing.asked, names=_make_name_lookup(services), every=syncing.every)


def make_delivery_pages(services: Services, console: PageResponder) -> DeliveryPages:
    """The page of deliveries."""

    async def people(words: str) -> list[DeliveryPersonMatch]:
        found = await services.db.read(find_people, words, None)
        clerk_ids = {it.id: next((id for id in it.aliases if id.startswith("user_")), None) for it in found}
        return [DeliveryPersonMatch(it.id, clerk_ids[it.id], it.name, it.email) for it in found]

    async def events(history: Sequence[AuditEntryRow]) -> list[DeliveryAuditView]:
        names = await services.db.read(list_names, collect_ids(history))
        reading = LabelContext(names=names, base="", now=services.clock())
        rows = [make_audit_entry_view(it, reading, services.pages.words, has_place=False) for it in history]
        return [DeliveryAuditView(what=it.what, whom=it.whom, who=it.who, at=it.at) for it in rows]

    return DeliveryPages(
        console=console,
        deliveries=make_deliveries(services),
        people=people,
        names=_make_name_lookup(services),
        events=events,
    )


def make_member_list_pages(services: Services, console: PageResponder) -> MemberListPages:
    """The page of the list."""

    async def adminless() -> list[tuple[str, str]]:
        return await services.db.read(find_organizations_without_admin)

    return MemberListPages(
        console=console,
        roles=_make_role_options(services),
        list_people=services.members.list_people,
        listen_for_changes=_make_change_listener(services),
        annotations=_make_row_annotations(services),
        find_without_admin=adminless,
        find_deactivations=services.gate.list_deactivation_notices,
    )


def make_member_action_pages(services: Services, console: PageResponder) -> MemberActionPages:
    """What is done with members from their rows."""
    policy = services.settings.instep_deactivation
    return MemberActionPages(
        console=console, members=services.members, roles=_make_role_options(services), policy=policy
    )


def make_invitation_pages(services: Services, console: PageResponder) -> InvitationPages:
    """The pages for inviting."""
    return InvitationPages(console=console, roles=_make_role_options(services), invite=services.invite)


def make_bulk_member_pages(services: Services, console: PageResponder) -> BulkMemberPages:
    """What is done with many members at once."""

    def find(conn: Conn, organization_id: str, ids: Sequence[str]) -> dict[str, str]:
        found = {id: find_member(conn, organization_id, id) for id in ids}
        return {id: member.name for id, member in found.items() if member}

    async def names(access: OrganizationAccess, ids: Sequence[str]) -> dict[str, str]:
        return await services.db.read(find, access.organization_id, ids)

    return BulkMemberPages(console=console, members=services.members, roles=_make_role_options(services), names=names)


def _make_role_options(services: Services) -> Callable[[OrganizationAccess], list[tuple[str, str]]]:
    """The keys and names of an organization's roles, in the reader's language."""

    def options(access: OrganizationAccess) -> list[tuple[str, str]]:
        return [(key, services.pages.words.say(name)) for key, name in access.roles.options]

    return options


def _get_default_role_names(services: Services) -> dict[str, str]:
    """The names of the roles that Clerk comes with, for people of several organizations."""
    return {key: services.pages.words.say(name) for key, name in DEFAULT_ROLE_NAMES.items()}


def _make_name_lookup(services: Services) -> Callable[[Sequence[str]], Awaitable[dict[str, str]]]:
    async def names(ids: Sequence[str]) -> dict[str, str]:
        return await services.db.read(list_names, ids)

    return names


def _make_row_annotations(services: Services) -> Callable[[OrganizationAccess], Awaitable[RowAnnotations]]:
    """What else an admin's list tells of its rows, read side by side."""

    async def around(access: OrganizationAccess) -> RowAnnotations:
        lost, cooling, unfinished = await asyncio.gather(
            services.db.read(list_lost_invitations, access.organization_id),
            services.invitations.resend.list_cooldowns(access),
            services.db.read(
                list_operations, states=("open", "attention"), organization_id=access.organization_id, limit=200
            ),
        )
        return RowAnnotations(
            lost_invitations=tuple(lost),
            cooldowns=cooling,
            operation_states={it.target: it.state for it in unfinished},
        )

    return around


def _make_change_listener(services: Services) -> Callable[[str], AsyncIterator[str]]:
    """An organization's news: under our id from the mirror, under Clerk's from its invitations."""

    async def listen(organization_id: str) -> AsyncIterator[str]:
        found = await services.db.read(find_organization, organization_id)
        topics = [organization_id, found.clerk_id] if found and found.clerk_id else [organization_id]
        async for topic in services.live.listen(*topics):
            yield topic

    return listen
