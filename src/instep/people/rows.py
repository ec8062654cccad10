"""What one row of the list says: names, badges, status, dates, and what may be done with it. Pure."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from instep.access.principal import Access
from instep.identity.addresses import canonical, displayed
from instep.identity.refusals import LAST_ADMIN
from instep.kit.signs import Badge, Status
from instep.kit.words import When, Words
from instep.people.around import NOTHING, Around, Lost
from instep.people.merge import InvitationRow, MemberRow
from instep.people.search import Search


class Reading(Struct, frozen=True, kw_only=True):
    """Who reads which list, and when. `roles` are the names of roles by key; `marked` is an invitation just sent.

    `home` is above the pages of the organization; `admins` is how many active admins it has.
    """

    access: Access
    search: Search
    path: str
    roles: Mapping[str, str]
    now: int
    marked: str = ""
    home: str = ""
    admins: int = 0
    around: Around = NOTHING


class Action(Struct, frozen=True, kw_only=True):
    """One line of a row's menu. With a `reason` it is shown disabled and says why; `copy` is put on the clipboard.

    `href` asks in a dialog first, `post` acts at once and the row waits; with `is_shown`
    what is answered is shown in a dialog.
    """

    key: str
    label: str
    icon: str
    copy: str | None = None
    href: str | None = None
    post: str | None = None
    reason: str | None = None
    is_shown: bool = False
    is_destructive: bool = False


class RoleChoice(Struct, frozen=True, kw_only=True):
    """The role as a select; `reason` says why it can't be changed."""

    action: str
    chosen: str
    options: tuple[tuple[str, str], ...]
    reason: str | None = None


class Row(Struct, frozen=True, kw_only=True):
    """One row. A member has `joined`, an invitation has `invited` and `expires`.

    `note` says why it needs attention; `choice` is the role where it may be changed; `pick` names the row to others.
    """

    id: str
    kind: Literal["member", "invitation", "lost"]
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
    note: str = ""
    choice: RoleChoice | None = None
    pick: str = ""


def row_of(row: MemberRow | InvitationRow, reading: Reading, words: Words) -> Row:
    """A row of either kind."""
    return member_row(row, reading, words) if isinstance(row, MemberRow) else invitation_row(row, reading, words)


def member_row(row: MemberRow, reading: Reading, words: Words) -> Row:
    """An accepted member."""
    name = name_of(row) or words.gettext("No name")
    is_self = row.user_id == reading.access.principal.user_id
    state = reading.around.of_member(row.id)
    return Row(
        id=row.id,
        kind="member",
        name=name,
        detail="" if row.email in (None, name) else displayed(row.email),
        email=row.email,
        image_url=row.image_url,
        badges=(Badge(words.gettext("You"), "brand"),) if is_self else (),
        role=role_name(row.role, reading.roles),
        status=unfinished_status(state, words) or member_status(row, words),
        last_active=words.ago(row.last_active_at, reading.now) if row.last_active_at else None,
        joined=words.moment(row.joined_at, words.day(row.joined_at, reading.now)),
        actions=member_actions(row, reading, words),
        note=words.gettext("A change of this person stopped halfway.") if state == "attention" else "",
        choice=role_choice(row, reading, words),
        pick=row.user_id if reading.access.may_act else "",
    )


def invitation_row(row: InvitationRow, reading: Reading, words: Words) -> Row:
    """An invitation: the address is all we know of the person."""
    _ = words.gettext
    is_over, is_named = row.status == "expired", row.inviter and not row.inviter.startswith("user_")
    show = words.ago if is_over else words.until
    state = reading.around.of_invitation(reading.access.organization_clerk_id, row.email)
    return Row(
        id=row.id,
        kind="invitation",
        name=displayed(row.email),
        detail=_("Invited by %(who)s", who=row.inviter) if is_named else "",
        email=row.email,
        image_url=None,
        badges=(Badge(_("Sent"), "good"),) if row.id == reading.marked else (),
        role=role_name(row.role, reading.roles),
        status=unfinished_status(state if state == "open" else None, words) or invitation_status(row, words),
        invited=words.ago(row.created_at, reading.now),
        expires=show(row.expires_at, reading.now) if row.expires_at else None,
        is_over=is_over,
        actions=invitation_actions(row, reading, words) if reading.access.may_act else (),
        pick=row.id if reading.access.may_act else "",
    )


def lost_row(lost: Lost, reading: Reading, words: Words) -> Row:
    """An invitation that is neither pending nor sent again: it must not be forgotten."""
    _ = words.gettext
    again = Action(
        key="again",
        label=_("Send again"),
        icon="send",
        post=f"{reading.home}/invitations/lost/{lost.operation}/again",
        reason=_("It is being tried.") if lost.is_tried else None,
    )
    drop = f"{reading.home}/operations/{lost.operation}/give-up"
    return Row(
        id=f"lost-{lost.operation}",
        kind="lost",
        name=displayed(lost.email),
        detail="",
        email=lost.email,
        image_url=None,
        badges=(),
        role=role_name(lost.role, reading.roles),
        status=Status(_("Invitation lost: send again"), "mail-x", "bad"),
        invited=words.ago(lost.at, reading.now),
        is_over=True,
        actions=(again, Action(key="drop", label=_("Give up"), icon="x", href=drop, is_destructive=True)),
        note=_(lost.reason),
    )


def member_status(row: MemberRow, words: Words) -> Status:
    """Return the badge of a member's status."""
    _ = words.gettext
    known = {
        "deactivated": Status(_("Deactivated"), "circle-minus", "quiet"),
        "banned": Status(_("Banned"), "ban", "bad"),
        "deprovisioned": Status(_("Deprovisioned"), "ban", "bad"),
    }
    return known.get(row.status) or Status(_("Active"), "circle-check", "good")


def invitation_status(row: InvitationRow, words: Words) -> Status:
    """An invitation waits, is about to end, or has ended."""
    if row.status == "expired":
        return Status(words.gettext("Invite expired"), "mail-x", "bad")
    if row.is_expiring:
        return Status(words.gettext("Expires soon"), "clock-alert", "warn")
    return Status(words.gettext("Invited"), "mail", "info")


def unfinished_status(state: str | None, words: Words) -> Status | None:
    """What a change that is not finished makes of a status."""
    if state == "attention":
        return Status(words.gettext("Needs attention"), "triangle-alert", "warn")
    return Status(words.gettext("Syncing"), "refresh-cw", "info") if state else None


def name_of(row: MemberRow) -> str:
    """What to call a member; empty where nothing is known."""
    whole = " ".join(part for part in (row.first_name, row.last_name) if part)
    return whole or row.username or displayed(row.email)


def why_it_stays(row: MemberRow, reading: Reading, words: Words) -> str | None:
    """Why a member can be neither put out nor given a lower role just now."""
    if reading.around.of_member(row.id) == "open":
        return words.gettext("A change of this person is under way.")
    is_last = reading.access.roles.is_admin(row.role) and row.status == "active" and reading.admins <= 1
    return words.gettext(LAST_ADMIN) if is_last else None


def role_choice(row: MemberRow, reading: Reading, words: Words) -> RoleChoice | None:
    """The role as a select, for admins."""
    if not reading.access.may_act or row.status == "deactivated":
        return None
    known = tuple(reading.roles.items())
    own = () if row.role in reading.roles else ((row.role, role_name(row.role, reading.roles)),)
    return RoleChoice(
        action=f"{reading.home}/members/{row.user_id}/role",
        chosen=row.role,
        options=own + known,
        reason=why_it_stays(row, reading, words),
    )


def member_actions(row: MemberRow, reading: Reading, words: Words) -> tuple[Action, ...]:
    """What the reader may do with a member; nothing for those who only read."""
    if not reading.access.may_act:
        return ()
    _ = words.gettext
    at, stays = f"{reading.home}/members/{row.user_id}", why_it_stays(row, reading, words)
    no_email = None if row.email else _("There is no e-mail address.")
    found = [
        Action(key="view", label=_("View details"), icon="eye", href=at),
        Action(key="role", label=_("Change role"), icon="shield", href=f"{at}/role", reason=stays),
        Action(key="edit", label=_("Edit profile"), icon="pencil", href=f"{at}/edit"),
        Action(key="copy", label=_("Copy e-mail"), icon="copy", copy=row.email, reason=no_email),
    ]
    if row.status == "deactivated":
        back = Action(key="reactivate", label=_("Reactivate"), icon="user-check", href=f"{at}/reactivate")
        return (found[0], found[2], found[3], back, _remove(at, stays, words))
    if row.user_id == reading.access.principal.user_id:
        leave = Action(key="leave", label=_("Leave organization"), icon="log-out", href=f"{reading.home}/leave")
        return (*found, replace(leave, reason=stays, is_destructive=True))
    out = Action(key="deactivate", label=_("Deactivate"), icon="user-x", href=f"{at}/deactivate", reason=stays)
    return (*found, replace(out, is_destructive=True), _remove(at, stays, words))


def _remove(at: str, stays: str | None, words: Words) -> Action:
    remove = Action(key="remove", label=words.gettext("Remove"), icon="user-minus", href=f"{at}/remove", reason=stays)
    return replace(remove, is_destructive=True)


def invitation_actions(row: InvitationRow, reading: Reading, words: Words) -> tuple[Action, ...]:
    """What may be done with an invitation."""
    _ = words.gettext
    at = f"{reading.home}/invitations/{row.id}"
    until = reading.around.cooling.get(canonical(row.email))
    wait = words.until(until, reading.now).text if until else ""
    is_open = reading.around.of_invitation(reading.access.organization_clerk_id, row.email) == "open"
    busy = _("A change of this invitation is under way.") if is_open else None
    cools = _("Sent again just now. Possible %(when)s.", when=wait) if wait else None
    again = Action(key="resend", label=_("Resend"), icon="send", post=f"{at}/resend", reason=busy or cools)
    story = Action(key="timeline", label=_("Timeline"), icon="clock", href=f"{at}/timeline")
    if row.status == "expired":
        return (again, story)
    link = Action(key="link", label=_("Copy link"), icon="link", post=f"{at}/link", is_shown=True, reason=busy)
    revoke = Action(key="revoke", label=_("Revoke"), icon="mail-x", href=f"{at}/revoke", reason=busy)
    return (again, link, story, replace(revoke, is_destructive=True))


def role_name(role: str, roles: Mapping[str, str]) -> str:
    """A role in words; one that nobody named is called by its key."""
    return roles.get(role) or role.partition(":")[2].replace("_", " ").capitalize() or role
