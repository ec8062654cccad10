"""What one row of the list says: names, badges, status, dates, and what may be done with it. Pure."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from instep.access.principal import Access
from instep.kit.signs import Badge, Status
from instep.kit.words import When, Words
from instep.people.merge import InvitationRow, MemberRow
from instep.people.search import Search


class Reading(Struct, frozen=True, kw_only=True):
    """Who reads which list, and when. `roles` are the names of roles by key; `marked` is an invitation just sent."""

    access: Access
    search: Search
    path: str
    roles: Mapping[str, str]
    now: int
    marked: str = ""


class Action(Struct, frozen=True, kw_only=True):
    """One line of a row's menu. With a `reason` it is shown disabled and says why; `copy` is put on the clipboard."""

    key: str
    label: str
    icon: str
    copy: str | None = None
    href: str | None = None
    reason: str | None = None
    is_destructive: bool = False


class Row(Struct, frozen=True, kw_only=True):
    """One row. A member has `joined`, an invitation has `invited` and `expires`."""

    id: str
    kind: Literal["member", "invitation"]
    name: str
    detail: str
    email: str | None
    image_url: str | None
    badges: tuple[Badge, ...]
    role: str
    status: Status
    last_active: When | None = None
    joined: When | None = None
    invited: When | None = None
    expires: When | None = None
    is_over: bool = False
    actions: tuple[Action, ...] = ()


def row_of(row: MemberRow | InvitationRow, reading: Reading, words: Words) -> Row:
    """A row of either kind."""
    return member_row(row, reading, words) if isinstance(row, MemberRow) else invitation_row(row, reading, words)


def member_row(row: MemberRow, reading: Reading, words: Words) -> Row:
    """An accepted member."""
    full_name = " ".join(part for part in (row.first_name, row.last_name) if part)
    name = full_name or row.username or row.email or words.gettext("No name")
    is_self = row.user_id == reading.access.principal.user_id
    return Row(
        id=row.id,
        kind="member",
        name=name,
        detail="" if row.email in (None, name) else row.email or "",
        email=row.email,
        image_url=row.image_url,
        badges=(Badge(words.gettext("You"), "brand"),) if is_self else (),
        role=role_name(row.role, reading.roles),
        status=member_status(row, words),
        last_active=words.ago(row.last_active_at, reading.now) if row.last_active_at else None,
        joined=words.moment(row.joined_at, words.day(row.joined_at, reading.now)),
        actions=member_actions(row, reading, words),
    )


def invitation_row(row: InvitationRow, reading: Reading, words: Words) -> Row:
    """An invitation: the address is all we know of the person."""
    _ = words.gettext
    is_over, is_named = row.status == "expired", row.inviter and not row.inviter.startswith("user_")
    show = words.ago if is_over else words.until
    return Row(
        id=row.id,
        kind="invitation",
        name=row.email,
        detail=_("Invited by %(who)s", who=row.inviter) if is_named else "",
        email=row.email,
        image_url=None,
        badges=(Badge(_("Sent"), "good"),) if row.id == reading.marked else (),
        role=role_name(row.role, reading.roles),
        status=invitation_status(row, words),
        invited=words.ago(row.created_at, reading.now),
        expires=show(row.expires_at, reading.now) if row.expires_at else None,
        is_over=is_over,
    )


def member_status(row: MemberRow, words: Words) -> Status:
    """A member is active or deactivated."""
    if row.status == "deactivated":
        return Status(words.gettext("Deactivated"), "circle-minus", "quiet")
    return Status(words.gettext("Active"), "circle-check", "good")


def invitation_status(row: InvitationRow, words: Words) -> Status:
    """An invitation waits, is about to end, or has ended."""
    if row.status == "expired":
        return Status(words.gettext("Invite expired"), "mail-x", "bad")
    if row.is_expiring:
        return Status(words.gettext("Expires soon"), "clock-alert", "warn")
    return Status(words.gettext("Invited"), "mail", "info")


def member_actions(row: MemberRow, reading: Reading, words: Words) -> tuple[Action, ...]:
    """What the reader may do with a member; nothing for those who only read."""
    if not reading.access.may_act:
        return ()
    reason = None if row.email else words.gettext("There is no e-mail address.")
    return (Action(key="copy", label=words.gettext("Copy e-mail"), icon="copy", copy=row.email, reason=reason),)


def role_name(role: str, roles: Mapping[str, str]) -> str:
    """A role in words; one that nobody named is called by its key."""
    return roles.get(role) or role.partition(":")[2].replace("_", " ").capitalize() or role
