"""View models of the members page. Pure."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from instep.auth.principal import OrganizationAccess
from instep.console.components import Badge, StatusBadge
from instep.core.i18n import FormattedTime, Localizer
from instep.domain.emails import canonicalize_email, find_alternate_form, format_email
from instep.domain.errors import LAST_ADMIN_MESSAGE
from instep.domain.models import LostInvitation
from instep.members.listing import MemberSearch, build_list_url, format_search
from instep.members.models import (
    NO_ANNOTATIONS,
    InvitationRow,
    MemberCounts,
    MemberListPage,
    MemberRow,
    RowAnnotations,
)
from instep.mirror.search_text import is_search_match


class MemberFilterOption(Struct, frozen=True, kw_only=True):
    """One choice of a chip; `href` is the list with this choice turned over."""

    label: str
    count: int | None
    is_on: bool
    href: str


class MemberFilterMenu(Struct, frozen=True, kw_only=True):
    """A filter with its choices; `clear` is the list without it."""

    key: str
    label: str
    options: tuple[MemberFilterOption, ...]
    clear: str

    @property
    def chosen(self) -> tuple[str, ...]:
        """The labels of what is chosen."""
        return tuple(option.label for option in self.options if option.is_on)


class MemberListContext(Struct, frozen=True, kw_only=True):
    """Who reads which list, and when. `roles` are the names of roles by key; `marked` is an invitation just sent.

    `home` is above the pages of the organization; `admins` is how many active admins it has.
    """

    access: OrganizationAccess
    search: MemberSearch
    path: str
    roles: Mapping[str, str]
    now: int
    marked: str = ""
    home: str = ""
    admins: int = 0
    around: RowAnnotations = NO_ANNOTATIONS


def build_filter_menus(
    totals: MemberCounts, read_sync: MemberListContext, words: Localizer
) -> tuple[MemberFilterMenu, ...]:
    """All of them, in the order of the page."""
    return (
        build_status_menu(totals, read_sync, words),
        build_role_menu(totals, read_sync, words),
        build_source_menu(read_sync, words),
        build_activity_menu(read_sync, words),
    )


def build_status_menu(totals: MemberCounts, read_sync: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """The filter by status, with what the header knows as counts."""
    _ = words.gettext
    names = {
        "active": (_("Active"), totals.active),
        "invited": (_("Invited"), totals.invitations),
        "expired": (_("Invite expired"), totals.expired_invitations),
        "deactivated": (_("Deactivated"), totals.deactivated),
    }
    barred = {
        "banned": (_("Banned"), totals.banned),
        "deprovisioned": (_("Deprovisioned"), totals.deprovisioned),
    }
    names |= {key: it for key, it in barred.items() if it[1] or key in read_sync.search.statuses}
    options = tuple(
        MemberFilterOption(
            label=names[status][0],
            count=names[status][1],
            is_on=status in read_sync.search.statuses,
            href=build_list_url(read_sync.path, read_sync.search.toggle_status(status)),
        )
        for status in names
    )
    clear = build_list_url(read_sync.path, read_sync.search.without("statuses"))
    return MemberFilterMenu(key="status", label=_("Status"), options=options, clear=clear)


def build_role_menu(totals: MemberCounts, read_sync: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """The filter by role. Only admins are counted beforehand; the others where there is but one other role."""
    roles = read_sync.access.roles
    admins, others = ([it for it in read_sync.roles if roles.is_admin(it) is kind] for kind in (True, False))
    counts: dict[str, int] = {admins[0]: totals.admins} if len(admins) == 1 else {}
    if len(others) == 1:
        counts[others[0]] = totals.active - totals.admins
    options = tuple(
        MemberFilterOption(
            label=name,
            count=counts.get(role),
            is_on=role in read_sync.search.roles,
            href=build_list_url(read_sync.path, read_sync.search.toggle_role(role)),
        )
        for role, name in read_sync.roles.items()
    )
    clear = build_list_url(read_sync.path, read_sync.search.without("roles"))
    return MemberFilterMenu(key="role", label=words.gettext("Role"), options=options, clear=clear)


def build_source_menu(read_sync: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """The filter by where somebody comes from: one, or the other."""
    _ = words.gettext
    return _build_single_choice_menu(
        "source",
        _("Source"),
        {"clerk": _("With a Clerk account"), "local": _("Only here")},
        read_sync,
    )


def build_activity_menu(read_sync: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """The filter by when somebody was last active."""
    _ = words.gettext
    names = {
        "7d": _("In the last 7 days"),
        "30d": _("In the last 30 days"),
        "idle": _("Not for 30 days"),
        "never": _("Never"),
    }
    return _build_single_choice_menu("active", _("Last active"), names, read_sync)


def _build_single_choice_menu(
    key: str, label: str, names: dict[str, str], read_sync: MemberListContext
) -> MemberFilterMenu:
    """A filter of which one choice is on at a time."""
    search = read_sync.search
    turn = search.toggle_source if key == "source" else search.toggle_active
    options = tuple(
        MemberFilterOption(
            label=name,
            count=None,
            is_on=getattr(search, key) == value,
            href=build_list_url(read_sync.path, turn(value)),
        )
        for value, name in names.items()
    )
    return MemberFilterMenu(
        key=key, label=label, options=options, clear=build_list_url(read_sync.path, search.without(key))
    )


class MemberRowAction(Struct, frozen=True, kw_only=True):
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
    has_result_dialog: bool = False
    is_destructive: bool = False


class RoleChoice(Struct, frozen=True, kw_only=True):
    """The role as a select; `reason` says why it can't be changed."""

    action: str
    chosen: str
    options: tuple[tuple[str, str], ...]
    reason: str | None = None


class MemberListRowView(Struct, frozen=True, kw_only=True):
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
    status: StatusBadge
    last_active: FormattedTime | None = None
    joined: FormattedTime | None = None
    invited: FormattedTime | None = None
    expires: FormattedTime | None = None
    is_over: bool = False
    actions: tuple[MemberRowAction, ...] = ()
    note: str = ""
    choice: RoleChoice | None = None
    pick: str = ""


def build_row(row: MemberRow | InvitationRow, read_sync: MemberListContext, words: Localizer) -> MemberListRowView:
    """A row of either kind."""
    return (
        build_member_row(row, read_sync, words)
        if isinstance(row, MemberRow)
        else build_invitation_row(row, read_sync, words)
    )


def build_member_row(row: MemberRow, read_sync: MemberListContext, words: Localizer) -> MemberListRowView:
    """An accepted member."""
    name = format_member_name(row) or words.gettext("No name")
    is_self = row.user_id == read_sync.access.principal.user_id
    state = read_sync.around.find_member_state(row.id)
    return MemberListRowView(
        id=row.id,
        kind="member",
        name=name,
        detail="" if row.email in (None, name) else format_email(row.email),
        email=row.email,
        image_url=row.image_url,
        badges=(Badge(words.gettext("You"), "brand"),) if is_self else (),
        role=format_role(row.role, read_sync.roles),
        status=build_unfinished_status(state, words) or build_member_status(row, words),
        last_active=words.ago(row.last_active_at, read_sync.now) if row.last_active_at else None,
        joined=words.format_time(row.joined_at, words.format_date(row.joined_at, read_sync.now)),
        actions=build_member_actions(row, read_sync, words),
        note=words.gettext("A change of this person stopped halfway.") if state == "attention" else "",
        choice=build_role_choice(row, read_sync, words),
        pick=row.user_id if read_sync.access.can_manage else "",
    )


def build_invitation_row(row: InvitationRow, read_sync: MemberListContext, words: Localizer) -> MemberListRowView:
    """An invitation: the address is all we know of the person."""
    _ = words.gettext
    is_over, is_named = row.status == "expired", row.inviter and not row.inviter.startswith("user_")
    show = words.ago if is_over else words.until
    state = read_sync.around.find_invitation_state(read_sync.access.organization_clerk_id, row.email)
    return MemberListRowView(
        id=row.id,
        kind="invitation",
        name=format_email(row.email),
        detail=_("Invited by %(who)s", who=row.inviter) if is_named else "",
        email=row.email,
        image_url=None,
        badges=(Badge(_("Sent"), "good"),) if row.id == read_sync.marked else (),
        role=format_role(row.role, read_sync.roles),
        status=build_unfinished_status(state if state == "open" else None, words)
        or build_invitation_status(row, words),
        invited=words.ago(row.created_at, read_sync.now),
        expires=show(row.expires_at, read_sync.now) if row.expires_at else None,
        is_over=is_over,
        actions=build_invitation_actions(row, read_sync, words) if read_sync.access.can_manage else (),
        pick=row.id if read_sync.access.can_manage else "",
    )


def build_lost_invitation_row(
    lost: LostInvitation, read_sync: MemberListContext, words: Localizer
) -> MemberListRowView:
    """An invitation that is neither pending nor sent again: it must not be forgotten."""
    _ = words.gettext
    again = MemberRowAction(
        key="again",
        label=_("Send again"),
        icon="send",
        post=f"{read_sync.home}/invitations/lost/{lost.operation_id}/again",
        reason=_("It is being tried.") if lost.is_retrying else None,
    )
    drop = f"{read_sync.home}/operations/{lost.operation_id}/give-up"
    return MemberListRowView(
        id=f"lost-{lost.operation_id}",
        kind="lost",
        name=format_email(lost.email),
        detail="",
        email=lost.email,
        image_url=None,
        badges=(),
        role=format_role(lost.role, read_sync.roles),
        status=StatusBadge(_("Invitation lost: send again"), "mail-x", "bad"),
        invited=words.ago(lost.lost_at, read_sync.now),
        is_over=True,
        actions=(again, MemberRowAction(key="drop", label=_("Give up"), icon="x", href=drop, is_destructive=True)),
        note=_(lost.reason),
    )


def build_member_status(row: MemberRow, words: Localizer) -> StatusBadge:
    """Return the badge of a member's status."""
    _ = words.gettext
    known = {
        "deactivated": StatusBadge(_("Deactivated"), "circle-minus", "quiet"),
        "banned": StatusBadge(_("Banned"), "ban", "bad"),
        "deprovisioned": StatusBadge(_("Deprovisioned"), "ban", "bad"),
    }
    return known.get(row.status) or StatusBadge(_("Active"), "circle-check", "good")


def build_invitation_status(row: InvitationRow, words: Localizer) -> StatusBadge:
    """An invitation waits, is about to end, or has ended."""
    if row.status == "expired":
        return StatusBadge(words.gettext("Invite expired"), "mail-x", "bad")
    if row.is_expiring:
        return StatusBadge(words.gettext("Expires soon"), "clock-alert", "warn")
    return StatusBadge(words.gettext("Invited"), "mail", "info")


def build_unfinished_status(state: str | None, words: Localizer) -> StatusBadge | None:
    """What a change that is not finished makes of a status."""
    if state == "attention":
        return StatusBadge(words.gettext("Needs attention"), "triangle-alert", "warn")
    return StatusBadge(words.gettext("Syncing"), "refresh-cw", "info") if state else None


def format_member_name(row: MemberRow) -> str:
    """What to call a member; empty where nothing is known."""
    whole = " ".join(part for part in (row.first_name, row.last_name) if part)
    return whole or row.username or format_email(row.email)


def find_block_reason(row: MemberRow, read_sync: MemberListContext, words: Localizer) -> str | None:
    """Why a member can be neither put out nor given a lower role just now."""
    if read_sync.around.find_member_state(row.id) == "open":
        return words.gettext("A change of this person is under way.")
    is_last = read_sync.access.roles.is_admin(row.role) and row.status == "active" and read_sync.admins <= 1
    return words.gettext(LAST_ADMIN_MESSAGE) if is_last else None


def build_role_choice(row: MemberRow, read_sync: MemberListContext, words: Localizer) -> RoleChoice | None:
    """The role as a select, for admins."""
    if not read_sync.access.can_manage or row.status == "deactivated":
        return None
    known = tuple(read_sync.roles.items())
    own = () if row.role in read_sync.roles else ((row.role, format_role(row.role, read_sync.roles)),)
    return RoleChoice(
        action=f"{read_sync.home}/members/{row.user_id}/role",
        chosen=row.role,
        options=own + known,
        reason=find_block_reason(row, read_sync, words),
    )


def build_member_actions(row: MemberRow, read_sync: MemberListContext, words: Localizer) -> tuple[MemberRowAction, ...]:
    """What the reader may do with a member; nothing for those who only read."""
    if not read_sync.access.can_manage:
        return ()
    _ = words.gettext
    at, stays = f"{read_sync.home}/members/{row.user_id}", find_block_reason(row, read_sync, words)
    no_email = None if row.email else _("There is no e-mail address.")
    found = [
        MemberRowAction(key="view", label=_("View details"), icon="eye", href=at),
        MemberRowAction(key="role", label=_("Change role"), icon="shield", href=f"{at}/role", reason=stays),
        MemberRowAction(key="edit", label=_("Edit profile"), icon="pencil", href=f"{at}/edit"),
        MemberRowAction(key="copy", label=_("Copy e-mail"), icon="copy", copy=row.email, reason=no_email),
    ]
    if row.status == "deactivated":
        back = MemberRowAction(key="reactivate", label=_("Reactivate"), icon="user-check", href=f"{at}/reactivate")
        return (found[0], found[2], found[3], back, _build_remove_action(at, stays, words))
    if row.user_id == read_sync.access.principal.user_id:
        leave = MemberRowAction(
            key="leave", label=_("Leave organization"), icon="log-out", href=f"{read_sync.home}/leave"
        )
        return (*found, replace(leave, reason=stays, is_destructive=True))
    out = MemberRowAction(key="deactivate", label=_("Deactivate"), icon="user-x", href=f"{at}/deactivate", reason=stays)
    return (*found, replace(out, is_destructive=True), _build_remove_action(at, stays, words))


def _build_remove_action(at: str, stays: str | None, words: Localizer) -> MemberRowAction:
    remove = MemberRowAction(
        key="remove", label=words.gettext("Remove"), icon="user-minus", href=f"{at}/remove", reason=stays
    )
    return replace(remove, is_destructive=True)


def build_invitation_actions(
    row: InvitationRow, read_sync: MemberListContext, words: Localizer
) -> tuple[MemberRowAction, ...]:
    """What may be done with an invitation."""
    _ = words.gettext
    at = f"{read_sync.home}/invitations/{row.id}"
    until = read_sync.around.cooling.get(canonicalize_email(row.email))
    wait = words.until(until, read_sync.now).text if until else ""
    is_open = read_sync.around.find_invitation_state(read_sync.access.organization_clerk_id, row.email) == "open"
    busy = _("A change of this invitation is under way.") if is_open else None
    cools = _("Sent again just now. Possible %(when)s.", when=wait) if wait else None
    again = MemberRowAction(key="resend", label=_("Resend"), icon="send", post=f"{at}/resend", reason=busy or cools)
    story = MemberRowAction(key="timeline", label=_("Timeline"), icon="clock", href=f"{at}/timeline")
    if row.status == "expired":
        return (again, story)
    link = MemberRowAction(
        key="link", label=_("Copy link"), icon="link", post=f"{at}/link", has_result_dialog=True, reason=busy
    )
    revoke = MemberRowAction(key="revoke", label=_("Revoke"), icon="mail-x", href=f"{at}/revoke", reason=busy)
    return (again, link, story, replace(revoke, is_destructive=True))


def format_role(role: str, roles: Mapping[str, str]) -> str:
    """A role in words; one that nobody named is called by its key."""
    return roles.get(role) or role.partition(":")[2].replace("_", " ").capitalize() or role


def format_headline(totals: MemberCounts, words: Localizer) -> str:
    """`24 members · 3 invited · 27 of 30 seats`; what is not known is left out."""
    parts = [words.ngettext("%(num)s member", "%(num)s members", totals.members)]
    if totals.invitations is not None:
        parts.append(words.ngettext("%(num)s invited", "%(num)s invited", totals.invitations))
    if totals.seats is not None and totals.seats_used is not None:
        parts.append(words.gettext("%(used)s of %(seats)s seats", used=totals.seats_used, seats=totals.seats))
    return " · ".join(parts)


def format_result_count(people: MemberListPage, search: MemberSearch, words: Localizer) -> str:
    """How many rows answer the filter; nothing where nothing narrows the list."""
    if not search.is_filtered or not people.rows:
        return ""
    count = len(people.rows)
    if people.next_cursor:
        return words.gettext("more than %(count)s results", count=count)
    return words.ngettext("%(num)s result", "%(num)s results", count)


class MemberListView(Struct, frozen=True, kw_only=True):
    """Everything the list says. `empty` is why there are no rows: nobody else is here, or nobody matches."""

    headline: str
    search: str
    chips: tuple[MemberFilterMenu, ...]
    rows: tuple[MemberListRowView, ...]
    found: str
    warnings: tuple[str, ...]
    attention: str
    empty: Literal["", "alone", "no_match"]
    here: str
    clear: str
    admins: str
    more: str | None
    deactivated: int
    has_deactivated: bool
    toggle_deactivated: str
    can_manage: bool
    export: str


def build_list_view(people: MemberListPage, read_sync: MemberListContext, words: Localizer) -> MemberListView:
    """One page of the list, in words."""
    search, path = read_sync.search, read_sync.path
    read_sync = replace(read_sync, admins=people.totals.admins)
    export = build_list_url(f"{path}/export", search)
    lost = [it for it in read_sync.around.lost if not search.statuses and _is_matching_email(it.email, search)]
    return MemberListView(
        headline=format_headline(people.totals, words),
        search=format_search(search),
        chips=build_filter_menus(people.totals, read_sync, words),
        rows=(
            *(build_lost_invitation_row(it, read_sync, words) for it in lost),
            *(build_row(row, read_sync, words) for row in people.rows),
        ),
        found=format_result_count(people, search, words),
        warnings=tuple(words.translate(warning) for warning in people.warnings),
        attention=find_attention_reason(people.totals, words),
        empty=find_empty_reason(people, read_sync),
        here=build_list_url(path, search),
        clear=build_list_url(path, search.without("words", "statuses", "roles", "source", "active")),
        admins=build_list_url(
            path, MemberSearch(roles=frozenset(read_sync.access.roles.admins & read_sync.roles.keys()))
        ),
        more=build_list_url(path, search, cursor=people.next_cursor) if people.next_cursor else None,
        deactivated=0 if search.statuses else people.totals.deactivated,
        has_deactivated=search.has_deactivated,
        toggle_deactivated=build_list_url(path, _toggle_deactivated(search)),
        can_manage=read_sync.access.can_manage,
        export=export + ("&" if "?" in export else "?"),
    )


def find_attention_reason(totals: MemberCounts, words: Localizer) -> str:
    """Why the organization as a whole needs a person; empty where it does not."""
    if not totals.members or totals.admins:
        return ""
    return words.gettext("This organization has no active admin. Make someone admin.")


def _is_matching_email(email: str, search: MemberSearch) -> bool:
    is_of_all = not search.roles and search.source != "local" and not search.active
    return is_of_all and is_search_match(search.words, (email, find_alternate_form(email)))


def _toggle_deactivated(search: MemberSearch) -> MemberSearch:
    return search.without("has_deactivated") if search.has_deactivated else replace(search, has_deactivated=True)


def find_empty_reason(people: MemberListPage, read_sync: MemberListContext) -> Literal["", "alone", "no_match"]:
    """Whether the list needs a word about having no rows, or only the reader's own."""
    if read_sync.search.is_filtered:
        return "" if people.rows else "no_match"
    lonely = len(people.rows) <= 1 and not people.warnings and not people.totals.invitations
    return "alone" if lonely and people.totals.active <= 1 else ""
