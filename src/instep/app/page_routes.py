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
from instep.audit.pages import AuditPages
from instep.audit.repository import AuditEntryRow
from instep.audit.service import AuditService
from instep.audit.views import make_audit_entry_view
from instep.auth.principal import OrganizationAccess, Principal
from instep.console.attention_pages import AttentionPages
from instep.console.key_pages import ApiKeyPages
from instep.console.labels import LabelContext, collect_ids, find_people, list_names
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
from instep.operations.pages import OperationPages
from instep.operations.repository import count_operations_needing_attention, list_operations
from instep.sync.messages import describe_freshness
from instep.sync.models import Freshness
from instep.sync.pages import SyncPages
from instep.sync.repository import find_freshness
from instep.users.models import UserFilter
from instep.users.pages import UserDetailPages, UserPages
from instep.webhooks.pages import DeliveryPages, DeliveryPersonMatch
from instep.webhooks.repository import count_failed
from instep.webhooks.views import DeliveryAuditView


def make_palette_search(
    services: Services,
) -> Callable[[OrganizationAccess | Principal, str], Awaitable[list[PaletteCommand]]]:
    """Create the people search of the command palette: members first; for instance admins all users."""

    async def find_members(access: OrganizationAccess, text: str) -> dict[str, PaletteCommand]:
        member_filter = MemberFilter(limit=MAX_COMMANDS_PER_GROUP, query=text, statuses=frozenset(MEMBER_STATUSES))
        people = (await services.members.list_people(access, member_filter)).rows
        path = get_organization_path(access)
        rows = [it for it in people if isinstance(it, MemberRow)]
        return {
            it.user_id: _build_person_command(format_member_name(it), it, f"{path}/members/{it.user_id}") for it in rows
        }

    async def find(viewer: OrganizationAccess | Principal, text: str) -> list[PaletteCommand]:
        principal = viewer.principal if isinstance(viewer, OrganizationAccess) else viewer
        found = await find_members(viewer, text) if isinstance(viewer, OrganizationAccess) else {}
        if principal.is_instance_admin and len(found) < MAX_COMMANDS_PER_GROUP:
            users = await services.users.list(principal, UserFilter(limit=MAX_COMMANDS_PER_GROUP, query=text))
            others = [it.user for it in users.rows if it.user.id not in found]
            found |= {it.id: _build_person_command(it.name, it, f"/users/{it.id}") for it in others}
        return list(found.values())

    return find


def _build_person_command(name: str, person: MemberRow | UserRow, href: str) -> PaletteCommand:
    name, email = name or person.email or "", person.email or ""
    return PaletteCommand(
        name=name,
        icon="users",
        detail=email if email != name else "",
        href=href,
        is_dialog=True,
        avatar="person",
        image_url=person.image_url,
    )


def make_page_routes(services: Services) -> list[Route]:
    """Return the routes of all console pages and their assets."""
    console = make_page_responder(services)
    return [
        *make_member_list_pages(services, console).routes(),
        *make_invitation_pages(services, console).routes(),
        *make_bulk_member_pages(services, console).routes(),
        *make_member_action_pages(services, console).routes(),
        *BulkInvitationPages(
            console=console, invitations=services.invitations, bulk=services.bulk_invitations
        ).routes(),
        *InvitationActionPages(console=console, invitations=services.invitations).routes(),
        *ApplicationInvitationPages(console=console, applications=services.application_invitations).routes(),
        *OperationPages(console=console, db=services.db, operations=make_operations(services)).routes(),
        *AuditPages(console=console, db=services.db, audit=AuditService(services.db)).routes(),
        *UserPages(console=console, users=services.users, roles=_get_default_role_names(services)).routes(),
        *UserDetailPages(console=console, users=services.users).routes(),
        *ApiKeyPages(console=console, keys=services.api_keys, load_names=_make_name_lookup(services)).routes(),
        *PalettePages(console=console, people=make_palette_search(services)).routes(),
        *make_sync_pages(services, console).routes(),
        *make_delivery_pages(services, console).routes(),
        *AttentionPages(console=console, listen=services.pubsub.listen).routes(),
        *services.sign_in_pages.routes(),
        *services.pages.routes(),
    ]


def make_reference_route(services: Services, document: Callable[[], openapi.Json]) -> Route:
    """Return the route GET /docs: the API reference, public."""

    @cache
    def render() -> tuple[str, str]:
        """Return the page, which is the same for everyone, and the nonce that each response replaces."""
        nonce, found = secrets.token_urlsafe(16), openapi.build_reference(document())
        template = services.pages.environment.get_template("app/reference.html")
        known = {it.name for it in found.schemas}
        return template.render(frame=None, status=200, nonce=nonce, reference=found, known=known), nonce

    async def show(_request: Request) -> Response:
        (text, placeholder), nonce = render(), secrets.token_urlsafe(16)
        return HTMLResponse(text.replace(placeholder, nonce), headers=services.pages.policy.headers(nonce))

    return Route("/docs", show)


def make_page_responder(services: Services) -> PageResponder:
    """Create the page responder: authentication, layout and notices of the pages."""

    async def attention(organization_id: str | None) -> int:
        return await services.db.read(count_operations_needing_attention, organization_id)

    async def notices() -> AttentionSummary:
        failed, freshness = await services.db.read(_read_attention)
        return AttentionSummary(failed_deliveries=failed, notice=describe_freshness(freshness, services.pages.words))

    return PageResponder(
        renderer=services.pages,
        require_principal=services.sign_in_pages.require_principal,
        require_access=services.sign_in_pages.require_access,
        list_organizations=services.authenticator.list_accesses,
        count_attention=attention,
        load_attention=notices,
    )


def _read_attention(conn: Conn) -> tuple[int, Freshness | None]:
    return count_failed(conn), find_freshness(conn)


def make_sync_pages(services: Services, console: PageResponder) -> SyncPages:
    """Create the sync pages."""
    sync_services = services.sync_services
    return SyncPages(
        console=console,
        run_queue=sync_services.run_queue,
        find_names=_make_name_lookup(services),
        check_interval=sync_services.check_interval,
    )


def make_delivery_pages(services: Services, console: PageResponder) -> DeliveryPages:
    """Create the deliveries pages."""

    async def people(words: str) -> list[DeliveryPersonMatch]:
        found = await services.db.read(find_people, words, None)
        clerk_ids = {it.id: next((id for id in it.aliases if id.startswith("user_")), None) for it in found}
        return [DeliveryPersonMatch(it.id, clerk_ids[it.id], it.name, it.email) for it in found]

    async def events(history: Sequence[AuditEntryRow]) -> list[DeliveryAuditView]:
        names = await services.db.read(list_names, collect_ids(history))
        reading = LabelContext(names=names, base_path="", now=services.clock())
        rows = [make_audit_entry_view(it, reading, services.pages.words, has_organization=False) for it in history]
        return [
            DeliveryAuditView(
                action_label=it.action_label, target_label=it.target_label, actor_label=it.actor_label, at=it.at
            )
            for it in rows
        ]

    return DeliveryPages(
        console=console,
        deliveries=make_deliveries(services),
        find_people=people,
        load_names=_make_name_lookup(services),
        make_audit_views=events,
    )


def make_member_list_pages(services: Services, console: PageResponder) -> MemberListPages:
    """Create the members page."""

    async def find_adminless() -> list[tuple[str, str]]:
        return await services.db.read(find_organizations_without_admin)

    return MemberListPages(
        console=console,
        roles=_make_role_options(services),
        list_people=services.members.list_people,
        listen_for_changes=_make_change_listener(services),
        annotations=_make_row_annotations(services),
        find_without_admin=find_adminless,
        find_deactivations=services.authenticator.list_deactivation_notices,
    )


def make_member_action_pages(services: Services, console: PageResponder) -> MemberActionPages:
    """Create the dialogs of member changes."""
    policy = services.settings.instep_deactivation
    return MemberActionPages(
        console=console, members=services.members, roles=_make_role_options(services), policy=policy
    )


def make_invitation_pages(services: Services, console: PageResponder) -> InvitationPages:
    """Create the invitation pages."""
    return InvitationPages(console=console, roles=_make_role_options(services), invitations=services.invitations)


def make_bulk_member_pages(services: Services, console: PageResponder) -> BulkMemberPages:
    """Create the dialogs of bulk member changes."""

    def find(conn: Conn, organization_id: str, ids: Sequence[str]) -> dict[str, str]:
        found = {id: find_member(conn, organization_id, id) for id in ids}
        return {id: member.name for id, member in found.items() if member}

    async def names(access: OrganizationAccess, ids: Sequence[str]) -> dict[str, str]:
        return await services.db.read(find, access.organization_id, ids)

    return BulkMemberPages(console=console, members=services.members, roles=_make_role_options(services), names=names)


def _make_role_options(services: Services) -> Callable[[OrganizationAccess], list[tuple[str, str]]]:
    """Return a function that lists an organization's roles: keys and localized names."""

    def options(access: OrganizationAccess) -> list[tuple[str, str]]:
        return [(key, services.pages.words.translate(name)) for key, name in access.roles.options]

    return options


def _get_default_role_names(services: Services) -> dict[str, str]:
    """Return the names of Clerk's default roles, for users of several organizations."""
    return {key: services.pages.words.translate(name) for key, name in DEFAULT_ROLE_NAMES.items()}


def _make_name_lookup(services: Services) -> Callable[[Sequence[str]], Awaitable[dict[str, str]]]:
    async def names(ids: Sequence[str]) -> dict[str, str]:
        return await services.db.read(list_names, ids)

    return names


def _make_row_annotations(services: Services) -> Callable[[OrganizationAccess], Awaitable[RowAnnotations]]:
    """Return a function that reads the annotations of an admin's list concurrently."""

    async def around(access: OrganizationAccess) -> RowAnnotations:
        lost, cooldowns, unfinished = await asyncio.gather(
            services.db.read(list_lost_invitations, access.organization_id),
            services.invitations.list_cooldowns(access),
            services.db.read(
                list_operations, states=("open", "attention"), organization_id=access.organization_id, limit=200
            ),
        )
        return RowAnnotations(
            lost_invitations=tuple(lost),
            cooldowns=cooldowns,
            operation_states={it.target: it.state for it in unfinished},
        )

    return around


def _make_change_listener(services: Services) -> Callable[[str], AsyncIterator[str]]:
    """Return a function that listens for an organization's changes.

    The mirror publishes under our id, invitations under Clerk's.
    """

    async def listen(organization_id: str) -> AsyncIterator[str]:
        found = await services.db.read(find_organization, organization_id)
        topics = [organization_id, found.clerk_id] if found and found.clerk_id else [organization_id]
        async for topic in services.pubsub.listen(*topics):
            yield topic

    return listen
