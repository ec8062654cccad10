"""Filter, merge, paginate and export the list of members and invitations. Pure."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from instep.core.clock import DAY, HOUR, to_iso
from instep.core.csv_export import format_csv_line
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
from instep.members.schemas import dump_row
from instep.mirror.search_text import is_search_match

SOURCES = ("clerk", "local")
ACTIVITIES = ("7d", "30d", "idle", "never")


def parse_activity(name: str, now: int) -> ActivityFilter | None:
    """What one of ACTIVITIES means at `now`; nothing else narrows the list."""
    known = {
        "7d": ActivityFilter(since=now - 7 * DAY),
        "30d": ActivityFilter(since=now - 30 * DAY),
        "idle": ActivityFilter(until=now - 30 * DAY),
        "never": ActivityFilter(is_never=True),
    }
    return known.get(name)


EXPORT_COLUMNS = [
    "kind",
    "email",
    "first_name",
    "last_name",
    "username",
    "role",
    "status",
    "joined_at",
    "last_active_at",
]


EXPORT_COLUMNS += ["invited_at", "expires_at", "user_id", "clerk_user_id", "id"]


async def stream_csv(pages: AsyncIterator[MemberListPage]) -> AsyncIterator[str]:
    yield "\ufeff" + format_csv_line(EXPORT_COLUMNS)  # by this mark a spreadsheet knows that it is UTF-8
    async for page in pages:
        yield "".join(format_csv_line(_export_cells(row)) for row in page.rows)


async def stream_json(first: MemberListPage, pages: AsyncIterator[MemberListPage]) -> AsyncIterator[str]:
    yield '{"warnings":' + msgspec.json.encode([str(it) for it in first.warnings]).decode() + ',"data":['
    comma = ""
    async for page in pages:
        if page.rows:
            yield comma + ",\n".join(map(dump_row, page.rows))
            comma = ",\n"
    yield "]}\n"


def _export_cells(row: MemberRow | InvitationRow) -> list[str | None]:
    """One row, in the order of COLUMNS."""
    if isinstance(row, InvitationRow):
        status = "pending" if row.status == "invited" else "expired"
        shown = ["invitation", row.email, None, None, None, row.role, status]
        return [*shown, None, None, to_iso(row.created_at), to_iso(row.expires_at), None, None, row.id]
    shown = ["member", row.email, row.first_name, row.last_name, row.username, row.role, row.status]
    times = [to_iso(row.joined_at), to_iso(row.last_active_at), None, None]
    return [*shown, *times, row.user_id, row.clerk_user_id, row.id]


INVITATIONS_UNAVAILABLE = str(
    lazy_gettext("Pending invitations could not be loaded. Accepted members are still shown.")
)
EXPIRED_VISIBLE_FOR = 30 * DAY
EXPIRING_WITHIN = 48 * HOUR


def encode_cursor(cursor: MemberCursor) -> str:
    """A cursor as opaque text for a URL."""
    return msgspec.json.encode(cursor).hex()


def decode_cursor(text: str) -> MemberCursor:
    """The cursor that `encode_cursor` made. Raises InvalidMemberCursorError for anything else."""
    try:
        packed = bytes.fromhex(text)
        if rb"\u0000" in packed:
            raise ValueError("no database holds a NUL in a text")
        return msgspec.json.decode(packed, type=MemberCursor)
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidMemberCursorError("The cursor is not one of this list; start again without it.") from error


def build_invitation_rows(
    invitations: Sequence[ClerkInvitation], *, now: int, joined: Collection[str]
) -> list[InvitationRow]:
    """The invitations worth showing, newest first.

    Left out: accepted and revoked ones; expired ones that are older than 30 days, whose address was invited again,
    or whose address has `joined` since (canonical).
    """
    rows = [row for it in invitations if (row := _build_invitation_row(it, now)) is not None]
    rows.sort(key=lambda row: (row.created_at, row.id), reverse=True)
    invited = {canonicalize_email(row.email) for row in rows if row.status == "invited"}
    seen: set[str] = set()
    shown = []
    for row in rows:
        address = canonicalize_email(row.email)
        if row.status == "expired" and (address in invited or address in seen or address in joined):
            continue
        seen.add(address)
        shown.append(row)
    return shown


def _build_invitation_row(it: ClerkInvitation, now: int) -> InvitationRow | None:
    if it.status not in ("pending", "expired"):
        return None
    is_over = it.status == "expired" or (it.expires_at is not None and it.expires_at <= now)
    if is_over and it.expires_at is not None and it.expires_at < now - EXPIRED_VISIBLE_FOR:
        return None
    return InvitationRow(
        id=it.clerk_id,
        email=it.email,
        role=it.role,
        status="expired" if is_over else "invited",
        created_at=it.created_at,
        expires_at=it.expires_at,
        inviter=it.inviter,
        is_expiring=not is_over and it.expires_at is not None and it.expires_at - now < EXPIRING_WITHIN,
    )


def merge_page(
    ask: MemberFilter,
    members: MemberQueryResult,
    invitations: Sequence[InvitationRow] | InvitationsUnavailable | None,
    lost: Sequence[LostInvitation] = (),
    *,
    unreadable: int = 0,
) -> MemberListPage:
    """One page. `invitations` is None where they were not asked for, Unavailable where Clerk could not be read.

    `unreadable`: how many more Clerk has that can't be read.
    """
    listed = invitations if invitations is not None and not isinstance(invitations, InvitationsUnavailable) else []
    wanted = [row for row in listed if _is_matching_invitation(row, ask)]
    after = ask.cursor.invitation if ask.cursor else None
    if after is not None:
        wanted = [row for row in wanted if (row.created_at, row.id) < after]
    first = wanted[: ask.limit]
    then = members.rows[: ask.limit - len(first)]
    totals = _build_counts(ask, members, invitations)
    has_more = len(first) < len(wanted) or len(then) < len(members.rows)
    return MemberListPage(
        rows=(*first, *then),
        totals=totals,
        warnings=_build_warnings(invitations, unreadable),
        next_cursor=encode_cursor(_cursor_after(first, then, totals)) if has_more else None,
        lost=tuple(it for it in lost if is_search_match(ask.query, (it.email, find_alternate_form(it.email)))),
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


def _is_matching_invitation(row: InvitationRow, ask: MemberFilter) -> bool:
    if ask.statuses and row.status not in ask.statuses:
        return False
    if ask.roles and row.role not in ask.roles:
        return False
    return is_search_match(ask.query, (row.email, find_alternate_form(row.email)))


def _cursor_after(first: Sequence[InvitationRow], then: Sequence[MemberRow], totals: MemberCounts) -> MemberCursor:
    invited, expired = totals.invitations, totals.expired_invitations
    if then:
        last = then[-1]
        return MemberCursor(None, (last.status, last.sort_name, last.id), invited, expired)
    return MemberCursor((first[-1].created_at, first[-1].id), None, invited, expired)


def _build_counts(
    ask: MemberFilter, members: MemberQueryResult, invitations: Sequence[InvitationRow] | InvitationsUnavailable | None
) -> MemberCounts:
    if invitations is None or isinstance(invitations, InvitationsUnavailable):
        invited, expired = (ask.cursor.invited, ask.cursor.expired) if ask.cursor else (None, None)
    else:
        invited = sum(row.status == "invited" for row in invitations)
        expired = len(invitations) - invited
    by_status = {s: sum(n for (st, _), n in members.counts.items() if st == s) for s in MEMBER_STATUSES}
    total = sum(by_status.values())
    return MemberCounts(
        members=total,
        active=by_status["active"],
        deactivated=by_status["deactivated"],
        banned=by_status["banned"],
        deprovisioned=by_status["deprovisioned"],
        admins=sum(n for (st, role), n in members.counts.items() if st == "active" and members.roles.is_admin(role)),
        invitations=invited,
        expired_invitations=expired,
        seats=members.seats,
        seats_used=None if invited is None else total + invited,
    )


ROLE_PREFIX = "org:"
_SINGLE_CHOICES = {"source": SOURCES, "active": ACTIVITIES}
DEFAULT_STATUSES = frozenset(STATUSES) - {"deactivated"}


class MemberSearch(Struct, frozen=True, kw_only=True):
    """A filter. Without `statuses` all are meant, but the deactivated only where they are asked for.

    `source` is one of SOURCES and `active` one of ACTIVITIES, empty for all.
    """

    words: str = ""
    statuses: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    source: str = ""
    active: str = ""
    has_deactivated: bool = False

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.words or self.statuses or self.roles or self.source or self.active)

    def toggle_status(self, status: str) -> "MemberSearch":
        """The same filter with one status more or less."""
        return replace(self, statuses=self.statuses ^ {status})

    def toggle_role(self, role: str) -> "MemberSearch":
        """The same filter with one role more or less."""
        return replace(self, roles=self.roles ^ {role})

    def toggle_source(self, source: str) -> "MemberSearch":
        """The same filter with this source, or without it."""
        return replace(self, source="" if self.source == source else source)

    def toggle_active(self, active: str) -> "MemberSearch":
        """The same filter with this time of the last activity, or without it."""
        return replace(self, active="" if self.active == active else active)

    def without(self, *names: str) -> "MemberSearch":
        """The same filter with some of its parts emptied."""
        empty = MemberSearch()
        return replace(self, **{name: getattr(empty, name) for name in names})


def parse_search(text: str, *, has_deactivated: bool = False, roles: RoleCatalog = UNKNOWN_ROLES) -> MemberSearch:
    """The filter that a text means. What is no known token is a word to look for. `roles` are the organization's."""
    words, statuses, found, one_of = [], set(), set(), {"source": "", "active": ""}
    for token in text.split():
        key, _, value = token.partition(":")
        value = value.lower()
        if key.lower() == "status" and value in STATUSES:
            statuses.add(value)
        elif key.lower() == "role" and value:
            found.add(roles.find_key(value))
        elif value in _SINGLE_CHOICES.get(key.lower(), ()):
            one_of[key.lower()] = value
        else:
            words.append(token)
    return MemberSearch(
        words=" ".join(words),
        statuses=frozenset(statuses),
        roles=frozenset(found),
        has_deactivated=has_deactivated,
        **one_of,
    )


def format_search(search: MemberSearch) -> str:
    """The text that means this filter: the tokens in a fixed order, then the words."""
    roles = [f"role:{format_role_token(role)}" for role in sorted(search.roles)]
    statuses = [f"status:{status}" for status in STATUSES if status in search.statuses]
    others = [f"{key}:{value}" for key in _SINGLE_CHOICES if (value := getattr(search, key))]
    return " ".join([*roles, *statuses, *others, *([search.words] if search.words else [])])


def build_filter(search: MemberSearch, *, limit: int, now: int, cursor: MemberCursor | None = None) -> MemberFilter:
    """What to ask the list for at `now`."""
    everyone: Iterable[str] = () if search.has_deactivated else DEFAULT_STATUSES
    return MemberFilter(
        limit=limit,
        query=search.words,
        statuses=search.statuses or frozenset(everyone),
        roles=search.roles,
        source=search.source,
        activity=parse_activity(search.active, now),
        cursor=cursor,
    )


def build_list_url(path: str, search: MemberSearch, **more: Any) -> str:
    """The address of the list under this filter."""
    text = format_search(search)
    query = {
        **({"q": text} if text else {}),
        **({"deactivated": "1"} if search.has_deactivated else {}),
        **{name: value for name, value in more.items() if value},
    }
    return f"{path}?{urlencode(query)}" if query else path


def format_role_token(role: str) -> str:
    """A role as one types it: `org:admin` is `admin`."""
    return role.removeprefix(ROLE_PREFIX)
