"""Filter, merge and paginate the list of members and invitations; parse and format its search. Pure."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from instep.core.clock import DAY, HOUR
from instep.core.i18n import lazy_gettext
from instep.domain.emails import canonicalize_email, find_alternate_form
from instep.domain.models import ClerkInvitation, LostInvitation
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog
from instep.members.models import (
    MEMBER_STATUSES,
    STATUSES,
    ActivityFilter,
    InvalidMemberCursorError,
    InvitationRow,
    InvitationsUnavailable,
    MemberCounts,
    MemberCursor,
    MemberFilter,
    MemberListPage,
    MemberQueryResult,
    MemberRow,
)
from instep.mirror.search import is_search_match

SOURCES = ("clerk", "local")
ACTIVITIES = ("7d", "30d", "idle", "never")
ROLE_PREFIX = "org:"
DEFAULT_STATUSES = frozenset(STATUSES) - {"deactivated"}
EXPIRED_VISIBLE_FOR = 30 * DAY
EXPIRING_WITHIN = 48 * HOUR
INVITATIONS_UNAVAILABLE = lazy_gettext("Pending invitations could not be loaded. Accepted members are still shown.")
_SINGLE_CHOICES = {"source": SOURCES, "active": ACTIVITIES}


def parse_activity(name: str, now: int) -> ActivityFilter | None:
    """Return the range that one of ACTIVITIES means at `now`; None for any other name."""
    filters = {
        "7d": ActivityFilter(since=now - 7 * DAY),
        "30d": ActivityFilter(since=now - 30 * DAY),
        "idle": ActivityFilter(until=now - 30 * DAY),
        "never": ActivityFilter(is_never=True),
    }
    return filters.get(name)


def encode_cursor(cursor: MemberCursor) -> str:
    """Encode a cursor as opaque text for a URL."""
    return msgspec.json.encode(cursor).hex()


def decode_cursor(text: str) -> MemberCursor:
    """Decode the result of `encode_cursor`. Raises InvalidMemberCursorError for anything else."""
    try:
        packed = bytes.fromhex(text)
        if rb"\u0000" in packed:
            raise ValueError("databases cannot store a NUL in a text")
        return msgspec.json.decode(packed, type=MemberCursor)
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidMemberCursorError("Invalid cursor for this list; start again without it.") from error


def build_invitation_rows(
    invitations: Sequence[ClerkInvitation], *, now: int, joined: Collection[str]
) -> list[InvitationRow]:
    """Return the rows of the invitations to show, newest first.

    Left out: accepted and revoked ones; expired ones that are older than 30 days, whose address was invited again,
    or whose address is among `joined` (canonical addresses).
    """
    rows = [row for each in invitations if (row := _build_invitation_row(each, now)) is not None]
    rows.sort(key=lambda row: (row.created_at, row.id), reverse=True)
    invited = {canonicalize_email(row.email) for row in rows if row.status == "invited"}
    seen: set[str] = set()
    visible = []
    for row in rows:
        address = canonicalize_email(row.email)
        if row.status == "expired" and (address in invited or address in seen or address in joined):
            continue
        seen.add(address)
        visible.append(row)
    return visible


def _build_invitation_row(invitation: ClerkInvitation, now: int) -> InvitationRow | None:
    if invitation.status not in ("pending", "expired"):
        return None
    is_expired = invitation.status == "expired" or (invitation.expires_at is not None and invitation.expires_at <= now)
    if is_expired and invitation.expires_at is not None and invitation.expires_at < now - EXPIRED_VISIBLE_FOR:
        return None
    return InvitationRow(
        id=invitation.clerk_id,
        email=invitation.email,
        role=invitation.role,
        status="expired" if is_expired else "invited",
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
        inviter=invitation.inviter,
        is_expiring=not is_expired
        and invitation.expires_at is not None
        and invitation.expires_at - now < EXPIRING_WITHIN,
    )


def merge_page(
    filters: MemberFilter,
    members: MemberQueryResult,
    invitations: Sequence[InvitationRow] | InvitationsUnavailable | None,
    lost: Sequence[LostInvitation] = (),
    *,
    unreadable: int = 0,
) -> MemberListPage:
    """Merge members and invitations to one page.

    `invitations` is None where they were not read, InvitationsUnavailable where Clerk could not be read. `unreadable`:
    the number of further invitations in Clerk that could not be parsed.
    """
    available = invitations if invitations is not None and not isinstance(invitations, InvitationsUnavailable) else []
    matching = [row for row in available if _is_matching_invitation(row, filters)]
    after = filters.cursor.invitation if filters.cursor else None
    if after is not None:
        matching = [row for row in matching if (row.created_at, row.id) < after]
    invitation_rows = matching[: filters.limit]
    member_rows = members.rows[: filters.limit - len(invitation_rows)]
    totals = _build_counts(filters, members, invitations)
    has_more = len(invitation_rows) < len(matching) or len(member_rows) < len(members.rows)
    return MemberListPage(
        rows=(*invitation_rows, *member_rows),
        totals=totals,
        warnings=_build_warnings(invitations, unreadable),
        next_cursor=encode_cursor(_build_cursor(invitation_rows, member_rows, totals)) if has_more else None,
        lost_invitations=tuple(
            each for each in lost if is_search_match(filters.query, (each.email, find_alternate_form(each.email)))
        ),
    )


def _build_warnings(
    invitations: Sequence[InvitationRow] | InvitationsUnavailable | None, unreadable: int
) -> tuple[str, ...]:
    if isinstance(invitations, InvitationsUnavailable):
        return (INVITATIONS_UNAVAILABLE,)
    if not unreadable:
        return ()
    if unreadable == 1:
        return (lazy_gettext("One invitation could not be read and is not shown. It is in Clerk."),)
    return (
        lazy_gettext("%(count)s invitations could not be read and are not shown. They are in Clerk.", count=unreadable),
    )


def _is_matching_invitation(row: InvitationRow, filters: MemberFilter) -> bool:
    if filters.statuses and row.status not in filters.statuses:
        return False
    if filters.roles and row.role not in filters.roles:
        return False
    return is_search_match(filters.query, (row.email, find_alternate_form(row.email)))


def _build_cursor(
    invitation_rows: Sequence[InvitationRow], member_rows: Sequence[MemberRow], totals: MemberCounts
) -> MemberCursor:
    invited, expired = totals.invitations, totals.expired_invitations
    if member_rows:
        last = member_rows[-1]
        return MemberCursor(None, (last.status, last.sort_name, last.id), invited, expired)
    return MemberCursor((invitation_rows[-1].created_at, invitation_rows[-1].id), None, invited, expired)


def _build_counts(
    filters: MemberFilter,
    members: MemberQueryResult,
    invitations: Sequence[InvitationRow] | InvitationsUnavailable | None,
) -> MemberCounts:
    if invitations is None or isinstance(invitations, InvitationsUnavailable):
        invited, expired = (filters.cursor.invited, filters.cursor.expired) if filters.cursor else (None, None)
    else:
        invited = sum(row.status == "invited" for row in invitations)
        expired = len(invitations) - invited
    by_status = dict.fromkeys(MEMBER_STATUSES, 0)
    admins = 0
    for (status, role), count in members.counts.items():
        if status in by_status:
            by_status[status] += count
        if status == "active" and members.roles.is_admin(role):
            admins += count
    total = sum(by_status.values())
    return MemberCounts(
        members=total,
        active=by_status["active"],
        deactivated=by_status["deactivated"],
        banned=by_status["banned"],
        deprovisioned=by_status["deprovisioned"],
        admins=admins,
        invitations=invited,
        expired_invitations=expired,
        seats=members.seats,
        seats_used=None if invited is None else total + invited,
    )


class MemberSearch(Struct, frozen=True, kw_only=True):
    """Filter of the members page, as typed into its search field.

    No `statuses` means all, but deactivated members only with `has_deactivated`. `source` is one of SOURCES and
    `active` one of ACTIVITIES, empty for all.
    """

    words: str = ""
    statuses: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    source: str = ""
    active: str = ""
    has_deactivated: bool = False

    @property
    def is_filtered(self) -> bool:
        """True if anything narrows the list."""
        return bool(self.words or self.statuses or self.roles or self.source or self.active)

    def toggle_status(self, status: str) -> "MemberSearch":
        """Add or remove a status."""
        return replace(self, statuses=self.statuses ^ {status})

    def toggle_role(self, role: str) -> "MemberSearch":
        """Add or remove a role."""
        return replace(self, roles=self.roles ^ {role})

    def toggle_source(self, source: str) -> "MemberSearch":
        """Choose a source, or clear it if it is chosen already."""
        return replace(self, source="" if self.source == source else source)

    def toggle_active(self, active: str) -> "MemberSearch":
        """Choose a range of the last activity, or clear it if it is chosen already."""
        return replace(self, active="" if self.active == active else active)

    def without(self, *names: str) -> "MemberSearch":
        """Clear some of the fields."""
        empty = MemberSearch()
        return replace(self, **{name: getattr(empty, name) for name in names})


def parse_search(text: str, *, has_deactivated: bool = False, roles: RoleCatalog = UNKNOWN_ROLES) -> MemberSearch:
    """Parse the text of the search field. Anything but a known token is a word. `roles` are the organization's."""
    words, statuses, role_keys, choices = [], set(), set(), {"source": "", "active": ""}
    for token in text.split():
        key, _, value = token.partition(":")
        key, value = key.lower(), value.lower()
        if key == "status" and value in STATUSES:
            statuses.add(value)
        elif key == "role" and value:
            role_keys.add(roles.find_key(value))
        elif value in _SINGLE_CHOICES.get(key, ()):
            choices[key] = value
        else:
            words.append(token)
    return MemberSearch(
        words=" ".join(words),
        statuses=frozenset(statuses),
        roles=frozenset(role_keys),
        has_deactivated=has_deactivated,
        **choices,
    )


def format_search(search: MemberSearch) -> str:
    """Format a filter as text of the search field: the tokens in a fixed order, then the words."""
    roles = [f"role:{format_role_token(role)}" for role in sorted(search.roles)]
    statuses = [f"status:{status}" for status in STATUSES if status in search.statuses]
    choices = [f"{key}:{value}" for key in _SINGLE_CHOICES if (value := getattr(search, key))]
    return " ".join([*roles, *statuses, *choices, *([search.words] if search.words else [])])


def build_filter(search: MemberSearch, *, limit: int, now: int, cursor: MemberCursor | None = None) -> MemberFilter:
    """Build the query of the list from a search, at `now`."""
    default_statuses: Iterable[str] = () if search.has_deactivated else DEFAULT_STATUSES
    return MemberFilter(
        limit=limit,
        query=search.words,
        statuses=search.statuses or frozenset(default_statuses),
        roles=search.roles,
        source=search.source,
        activity=parse_activity(search.active, now),
        cursor=cursor,
    )


def build_list_url(path: str, search: MemberSearch, **parameters: Any) -> str:
    """Build the URL of the list with a filter; `parameters` are further query parameters, empty ones left out."""
    text = format_search(search)
    query = {
        **({"q": text} if text else {}),
        **({"deactivated": "1"} if search.has_deactivated else {}),
        **{name: value for name, value in parameters.items() if value},
    }
    return f"{path}?{urlencode(query)}" if query else path


def format_role_token(role: str) -> str:
    """Shorten a role key for the search field: `org:admin` becomes `admin`."""
    return role.removeprefix(ROLE_PREFIX)
