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
from instep.members.models import NO_ANNOTATIONS, InvitationRow, MemberCounts, MemberListPage, MemberRow, RowAnnotations
from instep.mirror.search import is_search_match


class MemberFilterOption(Struct, frozen=True, kw_only=True):
    """One option of a filter menu; `href` is the list with this option toggled."""

    label: str
    count: int | None
    is_on: bool
    href: str


class MemberFilterMenu(Struct, frozen=True, kw_only=True):
    """A filter with its options; `clear_url` is the list without it."""

    key: str
    label: str
    options: tuple[MemberFilterOption, ...]
    clear_url: str

    @property
    def chosen(self) -> tuple[str, ...]:
        """Labels of the selected options."""
        return tuple(option.label for option in self.options if option.is_on)


class MemberListContext(Struct, frozen=True, kw_only=True):
    """Reader, filter and time of a list. `roles` are the names of roles by key.

    `path` is the list's, `home` the organization's. `marked_invitation_id` is an invitation that was just sent;
    `admin_count` is the number of active admins.
    """

    access: OrganizationAccess
    search: MemberSearch
    path: str
    roles: Mapping[str, str]
    now: int
    marked_invitation_id: str = ""
    home: str = ""
    admin_count: int = 0
    annotations: RowAnnotations = NO_ANNOTATIONS


def build_filter_menus(
    totals: MemberCounts, context: MemberListContext, words: Localizer
) -> tuple[MemberFilterMenu, ...]:
    """Build all filter menus in the order of the page."""
    return (
        build_status_menu(totals, context, words),
        build_role_menu(totals, context, words),
        build_source_menu(context, words),
        build_activity_menu(context, words),
    )


def build_status_menu(totals: MemberCounts, context: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """Build the filter by status, with the counts of the organization."""
    _ = words.gettext
    names = {
        "active": (_("Active"), totals.active),
        "invited": (_("Invited"), totals.invitations),
        "expired": (_("Invite expired"), totals.expired_invitations),
        "deactivated": (_("Deactivated"), totals.deactivated),
    }
    blocked = {
        "banned": (_("Banned"), totals.banned),
        "deprovisioned": (_("Deprovisioned"), totals.deprovisioned),
    }
    names |= {key: entry for key, entry in blocked.items() if entry[1] or key in context.search.statuses}
    options = tuple(
        MemberFilterOption(
            label=label,
            count=count,
            is_on=status in context.search.statuses,
            href=build_list_url(context.path, context.search.toggle_status(status)),
        )
        for status, (label, count) in names.items()
    )
    clear_url = build_list_url(context.path, context.search.without("statuses"))
    return MemberFilterMenu(key="status", label=_("Status"), options=options, clear_url=clear_url)


def build_role_menu(totals: MemberCounts, context: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """Build the filter by role. A role has a count only if it is the single admin role or the single other role."""
    roles = context.access.roles
    admins, others = ([key for key in context.roles if roles.is_admin(key) is kind] for kind in (True, False))
    counts: dict[str, int] = {admins[0]: totals.admins} if len(admins) == 1 else {}
    if len(others) == 1:
        counts[others[0]] = totals.active - totals.admins
    options = tuple(
        MemberFilterOption(
            label=name,
            count=counts.get(role),
            is_on=role in context.search.roles,
            href=build_list_url(context.path, context.search.toggle_role(role)),
        )
        for role, name in context.roles.items()
    )
    clear_url = build_list_url(context.path, context.search.without("roles"))
    return MemberFilterMenu(key="role", label=words.gettext("Role"), options=options, clear_url=clear_url)


def build_source_menu(context: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """Build the filter by source: with a Clerk account, or without one."""
    _ = words.gettext
    return _build_single_choice_menu(
        "source",
        _("Source"),
        {"clerk": _("With a Clerk account"), "local": _("Without a Clerk account")},
        context,
    )


def build_activity_menu(context: MemberListContext, words: Localizer) -> MemberFilterMenu:
    """Build the filter by the time of the last activity."""
    _ = words.gettext
    names = {
        "7d": _("In the last 7 days"),
        "30d": _("In the last 30 days"),
        "idle": _("Not in the last 30 days"),
        "never": _("Never"),
    }
    return _build_single_choice_menu("active", _("Last active"), names, context)


def _build_single_choice_menu(
    key: str, label: str, names: dict[str, str], context: MemberListContext
) -> MemberFilterMenu:
    """Build a filter with at most one selected option."""
    search = context.search
    toggle = search.toggle_source if key == "source" else search.toggle_active
    options = tuple(
        MemberFilterOption(
            label=name,
            count=None,
            is_on=getattr(search, key) == value,
            href=build_list_url(context.path, toggle(value)),
        )
        for value, name in names.items()
    )
    clear_url = build_list_url(context.path, search.without(key))
    return MemberFilterMenu(key=key, label=label, options=options, clear_url=clear_url)


class MemberRowAction(Struct, frozen=True, kw_only=True):
    """One entry of a row's menu. With a `reason` it is disabled and shows it; `copy_text` goes to the clipboard.

    `href` opens a confirmation dialog; `post_url` acts immediately while the row waits. With `has_result_dialog` the
    answer is shown in a dialog.
    """

    key: str
    label: str
    icon: str
    copy_text: str | None = None
    href: str | None = None
    post_url: str | None = None
    reason: str | None = None
    has_result_dialog: bool = False
    is_destructive: bool = False


class RoleChoice(Struct, frozen=True, kw_only=True):
    """Select element for a member's role; `reason` is set where the role can't be changed."""

    action: str
    chosen: str
    options: tuple[tuple[str, str], ...]
    reason: str | None = None


class MemberListRowView(Struct, frozen=True, kw_only=True):
    """One row of the list. A member has `joined`, an invitation has `invited` and `expires`.

    `note` is the reason why it needs attention; `role_choice` is set where the reader may change roles;
    `selection_id` identifies the row in bulk changes, empty where it can't be selected.
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
    is_expired: bool = False
    actions: tuple[MemberRowAction, ...] = ()
    note: str = ""
    role_choice: RoleChoice | None = None
    selection_id: str = ""


def build_row(row: MemberRow | InvitationRow, context: MemberListContext, words: Localizer) -> MemberListRowView:
    """Build the view of a row of either kind."""
    return (
        build_member_row(row, context, words)
        if isinstance(row, MemberRow)
        else build_invitation_row(row, context, words)
    )


def build_member_row(row: MemberRow, context: MemberListContext, words: Localizer) -> MemberListRowView:
    """Build the row of a member."""
    name = format_member_name(row) or words.gettext("No name")
    is_self = row.user_id == context.access.principal.user_id
    state = context.annotations.find_member_state(row.id)
    return MemberListRowView(
        id=row.id,
        kind="member",
        name=name,
        detail="" if row.email in (None, name) else format_email(row.email),
        email=row.email,
        image_url=row.image_url,
        badges=(Badge(words.gettext("You"), "brand"),) if is_self else (),
        role=format_role(row.role, context.roles),
        status=build_unfinished_status(state, words) or build_member_status(row, words),
        last_active=words.ago(row.last_active_at, context.now) if row.last_active_at else None,
        joined=words.format_time(row.joined_at, words.format_date(row.joined_at, context.now)),
        actions=build_member_actions(row, context, words),
        note=words.gettext("A change to this person is incomplete.") if state == "attention" else "",
        role_choice=build_role_choice(row, context, words),
        selection_id=row.user_id if context.access.can_manage else "",
    )


def build_invitation_row(row: InvitationRow, context: MemberListContext, words: Localizer) -> MemberListRowView:
    """Build the row of an invitation; its address is all that is known of the person."""
    _ = words.gettext
    is_expired, has_inviter_name = row.status == "expired", row.inviter and not row.inviter.startswith("user_")
    format_time = words.ago if is_expired else words.until
    state = context.annotations.find_invitation_state(context.access.organization_clerk_id, row.email)
    return MemberListRowView(
        id=row.id,
        kind="invitation",
        name=format_email(row.email),
        detail=_("Invited by %(name)s", name=row.inviter) if has_inviter_name else "",
        email=row.email,
        image_url=None,
        badges=(Badge(_("Sent"), "good"),) if row.id == context.marked_invitation_id else (),
        role=format_role(row.role, context.roles),
        status=build_unfinished_status(state if state == "open" else None, words)
        or build_invitation_status(row, words),
        invited=words.ago(row.created_at, context.now),
        expires=format_time(row.expires_at, context.now) if row.expires_at else None,
        is_expired=is_expired,
        actions=build_invitation_actions(row, context, words) if context.access.can_manage else (),
        selection_id=row.id if context.access.can_manage else "",
    )


def build_lost_invitation_row(lost: LostInvitation, context: MemberListContext, words: Localizer) -> MemberListRowView:
    """Build the row of a lost invitation: revoked to be resent, and not created again."""
    _ = words.gettext
    again = MemberRowAction(
        key="again",
        label=_("Send again"),
        icon="send",
        post_url=f"{context.home}/invitations/lost/{lost.operation_id}/again",
        reason=_("Retry in progress.") if lost.is_retrying else None,
    )
    drop = f"{context.home}/operations/{lost.operation_id}/give-up"
    return MemberListRowView(
        id=f"lost-{lost.operation_id}",
        kind="lost",
        name=format_email(lost.email),
        detail="",
        email=lost.email,
        image_url=None,
        badges=(),
        role=format_role(lost.role, context.roles),
        status=StatusBadge(_("Invitation lost: send again"), "mail-x", "bad"),
        invited=words.ago(lost.lost_at, context.now),
        is_expired=True,
        actions=(again, MemberRowAction(key="drop", label=_("Give up"), icon="x", href=drop, is_destructive=True)),
        note=words.translate(lost.reason),
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
    """Return the badge of an invitation: pending, about to expire, or expired."""
    if row.status == "expired":
        return StatusBadge(words.gettext("Invite expired"), "mail-x", "bad")
    if row.is_expiring:
        return StatusBadge(words.gettext("Expires soon"), "clock-alert", "warn")
    return StatusBadge(words.gettext("Invited"), "mail", "info")


def build_unfinished_status(state: str | None, words: Localizer) -> StatusBadge | None:
    """Return the badge of an unfinished operation, None if there is none."""
    if state == "attention":
        return StatusBadge(words.gettext("Needs attention"), "triangle-alert", "warn")
    return StatusBadge(words.gettext("Syncing"), "refresh-cw", "info") if state else None


def format_member_name(row: MemberRow) -> str:
    """Return a member's display name; empty where nothing is known."""
    full_name = " ".join(part for part in (row.first_name, row.last_name) if part)
    return full_name or row.username or format_email(row.email)


def find_block_reason(row: MemberRow, context: MemberListContext, words: Localizer) -> str | None:
    """Return the reason why a member can't be removed, deactivated or demoted now, None if it is possible."""
    if context.annotations.find_member_state(row.id) == "open":
        return words.gettext("A change to this person is in progress.")
    is_last = context.access.roles.is_admin(row.role) and row.status == "active" and context.admin_count <= 1
    return words.gettext(LAST_ADMIN_MESSAGE) if is_last else None


def build_role_choice(row: MemberRow, context: MemberListContext, words: Localizer) -> RoleChoice | None:
    """Build the select element for a member's role; None for readers who are no admins."""
    if not context.access.can_manage or row.status == "deactivated":
        return None
    present_role = () if row.role in context.roles else ((row.role, format_role(row.role, context.roles)),)
    return RoleChoice(
        action=f"{context.home}/members/{row.user_id}/role",
        chosen=row.role,
        options=(*present_role, *context.roles.items()),
        reason=find_block_reason(row, context, words),
    )


def build_member_actions(row: MemberRow, context: MemberListContext, words: Localizer) -> tuple[MemberRowAction, ...]:
    """Build the menu of a member; empty for readers who are no admins."""
    if not context.access.can_manage:
        return ()
    _ = words.gettext
    path, block_reason = f"{context.home}/members/{row.user_id}", find_block_reason(row, context, words)
    no_email = None if row.email else _("No email address.")
    actions = [
        MemberRowAction(key="view", label=_("View details"), icon="eye", href=path),
        MemberRowAction(key="role", label=_("Change role"), icon="shield", href=f"{path}/role", reason=block_reason),
        MemberRowAction(key="edit", label=_("Edit profile"), icon="pencil", href=f"{path}/edit"),
        MemberRowAction(key="copy", label=_("Copy email"), icon="copy", copy_text=row.email, reason=no_email),
    ]
    if row.status == "deactivated":
        view, _role, edit, copy = actions
        reactivate = MemberRowAction(
            key="reactivate", label=_("Reactivate"), icon="user-check", href=f"{path}/reactivate"
        )
        return (view, edit, copy, reactivate, _build_remove_action(path, block_reason, words))
    if row.user_id == context.access.principal.user_id:
        leave = MemberRowAction(
            key="leave", label=_("Leave organization"), icon="log-out", href=f"{context.home}/leave"
        )
        return (*actions, replace(leave, reason=block_reason, is_destructive=True))
    deactivate = MemberRowAction(
        key="deactivate", label=_("Deactivate"), icon="user-x", href=f"{path}/deactivate", reason=block_reason
    )
    return (*actions, replace(deactivate, is_destructive=True), _build_remove_action(path, block_reason, words))


def _build_remove_action(path: str, block_reason: str | None, words: Localizer) -> MemberRowAction:
    remove = MemberRowAction(
        key="remove", label=words.gettext("Remove"), icon="user-minus", href=f"{path}/remove", reason=block_reason
    )
    return replace(remove, is_destructive=True)


def build_invitation_actions(
    row: InvitationRow, context: MemberListContext, words: Localizer
) -> tuple[MemberRowAction, ...]:
    """Build the menu of an invitation."""
    _ = words.gettext
    path = f"{context.home}/invitations/{row.id}"
    state = context.annotations.find_invitation_state(context.access.organization_clerk_id, row.email)
    busy = _("A change to this invitation is in progress.") if state == "open" else None
    until = context.annotations.cooldowns.get(canonicalize_email(row.email))
    wait = words.until(until, context.now).text if until else ""
    cooldown = _("Sent just now. You can resend it %(when)s.", when=wait) if wait else None
    resend = MemberRowAction(
        key="resend", label=_("Resend"), icon="send", post_url=f"{path}/resend", reason=busy or cooldown
    )
    timeline = MemberRowAction(key="timeline", label=_("Timeline"), icon="clock", href=f"{path}/timeline")
    if row.status == "expired":
        return (resend, timeline)
    link = MemberRowAction(
        key="link", label=_("Copy link"), icon="link", post_url=f"{path}/link", has_result_dialog=True, reason=busy
    )
    revoke = MemberRowAction(key="revoke", label=_("Revoke"), icon="mail-x", href=f"{path}/revoke", reason=busy)
    return (resend, link, timeline, replace(revoke, is_destructive=True))


def format_role(role: str, roles: Mapping[str, str]) -> str:
    """Return the name of a role; one without a name is derived from its key."""
    return roles.get(role) or role.partition(":")[2].replace("_", " ").capitalize() or role


def format_headline(totals: MemberCounts, words: Localizer) -> str:
    """Format the counts as `24 members · 3 invited · 27 of 30 seats`; unknown ones are left out."""
    parts = [words.ngettext("%(num)s member", "%(num)s members", totals.members)]
    if totals.invitations is not None:
        parts.append(words.ngettext("%(num)s invited", "%(num)s invited", totals.invitations))
    if totals.seats is not None and totals.seats_used is not None:
        parts.append(words.gettext("%(used)s of %(seats)s seats", used=totals.seats_used, seats=totals.seats))
    return " · ".join(parts)


def format_result_count(page: MemberListPage, search: MemberSearch, words: Localizer) -> str:
    """Format the number of matching rows; empty where nothing narrows the list."""
    if not search.is_filtered or not page.rows:
        return ""
    count = len(page.rows)
    if page.next_cursor:
        return words.gettext("more than %(count)s results", count=count)
    return words.ngettext("%(num)s result", "%(num)s results", count)


EmptyReason = Literal["", "alone", "no_match"]


class MemberListView(Struct, frozen=True, kw_only=True):
    """View model of one page of the list.

    `empty_reason`: no row matches ("no_match"), or the reader is the only member ("alone"). `url` is the list with this
    filter, `clear_url` without it; `export_url` ends where the format is appended. `deactivated` is the number of
    deactivated members, 0 where the filter chooses a status.
    """

    headline: str
    search: str
    filter_menus: tuple[MemberFilterMenu, ...]
    rows: tuple[MemberListRowView, ...]
    result_count: str
    warnings: tuple[str, ...]
    attention_reason: str
    empty_reason: EmptyReason
    url: str
    clear_url: str
    admins_url: str
    next_page_url: str | None
    deactivated: int
    has_deactivated: bool
    toggle_deactivated_url: str
    can_manage: bool
    export_url: str


def build_list_view(page: MemberListPage, context: MemberListContext, words: Localizer) -> MemberListView:
    """Build the view model of one page of the list."""
    search, path = context.search, context.path
    context = replace(context, admin_count=page.totals.admins)
    export_url = build_list_url(f"{path}/export", search)
    admin_roles = frozenset(context.access.roles.admins & context.roles.keys())
    return MemberListView(
        headline=format_headline(page.totals, words),
        search=format_search(search),
        filter_menus=build_filter_menus(page.totals, context, words),
        rows=(
            *(build_lost_invitation_row(each, context, words) for each in _list_lost_invitations(context)),
            *(build_row(row, context, words) for row in page.rows),
        ),
        result_count=format_result_count(page, search, words),
        warnings=tuple(words.translate(warning) for warning in page.warnings),
        attention_reason=find_attention_reason(page.totals, words),
        empty_reason=find_empty_reason(page, context),
        url=build_list_url(path, search),
        clear_url=build_list_url(path, search.without("words", "statuses", "roles", "source", "active")),
        admins_url=build_list_url(path, MemberSearch(roles=admin_roles)),
        next_page_url=build_list_url(path, search, cursor=page.next_cursor) if page.next_cursor else None,
        deactivated=0 if search.statuses else page.totals.deactivated,
        has_deactivated=search.has_deactivated,
        toggle_deactivated_url=build_list_url(path, _toggle_deactivated(search)),
        can_manage=context.access.can_manage,
        export_url=export_url + ("&" if "?" in export_url else "?"),
    )


def find_attention_reason(totals: MemberCounts, words: Localizer) -> str:
    """Return the reason why the organization needs attention; empty if it does not."""
    if not totals.members or totals.admins:
        return ""
    return words.gettext("This organization has no active admin. Make someone an admin.")


def find_empty_reason(page: MemberListPage, context: MemberListContext) -> EmptyReason:
    """Return the reason to show instead of rows, or beside the reader's own row; empty if there are others."""
    if context.search.is_filtered:
        return "" if page.rows else "no_match"
    is_alone = len(page.rows) <= 1 and not page.warnings and not page.totals.invitations
    return "alone" if is_alone and page.totals.active <= 1 else ""


def _list_lost_invitations(context: MemberListContext) -> list[LostInvitation]:
    """Return the lost invitations that match the search."""
    search = context.search
    if search.statuses or search.roles or search.source == "local" or search.active:
        return []
    return [
        each
        for each in context.annotations.lost_invitations
        if is_search_match(search.words, (each.email, find_alternate_form(each.email)))
    ]


def _toggle_deactivated(search: MemberSearch) -> MemberSearch:
    return search.without("has_deactivated") if search.has_deactivated else replace(search, has_deactivated=True)
