"""View models of the members page."""

import pytest
from msgspec.structs import replace

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.components import Badge
from instep.core.clock import DAY, HOUR
from instep.core.i18n import Localizer
from instep.domain.errors import LAST_ADMIN_MESSAGE
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE, LostInvitation
from instep.members.listing import INVITATIONS_UNAVAILABLE, parse_search
from instep.members.models import (
    InvitationRow,
    MemberCounts,
    MemberListPage,
    MemberRow,
    RowAnnotations,
)
from instep.members.views import (
    MemberListContext,
    MemberListRowView,
    MemberListView,
    build_list_view,
    build_row,
    format_headline,
    format_role,
)

NOW = 1_772_000_000_000
WORDS = Localizer()
ACCESS = OrganizationAccess(
    principal=Principal(kind="person", name="Maya Cohen", user_id="usr_1"),
    organization_id="org_1",
    organization_clerk_id="org_c",
    organization_name="Northwind Law",
    organization_slug="northwind",
    role=ADMIN_ROLE,
)
READING = MemberListContext(
    access=ACCESS,
    search=parse_search(""),
    path="/m",
    roles={MEMBER_ROLE: "Member", ADMIN_ROLE: "Admin"},
    now=NOW,
    marked_invitation_id="",
    admin_count=2,
)
MAYA = MemberRow(
    id="mbr_1",
    clerk_id="orgmem_1",
    user_id="usr_1",
    clerk_user_id="user_1",
    email="maya@x.example",
    first_name="Maya",
    last_name="Cohen",
    username=None,
    image_url=None,
    role=ADMIN_ROLE,
    status="active",
    sort_name="cohen maya",
    joined_at=NOW - 20 * DAY,
    last_active_at=NOW - 2 * HOUR,
)
OMAR = replace(MAYA, id="mbr_2", user_id="usr_2", email="omar@x.example", first_name="Omar", role=MEMBER_ROLE)
NORA = InvitationRow(
    id="orginv_1",
    email="nora@x.example",
    role=MEMBER_ROLE,
    status="invited",
    created_at=NOW - 3 * DAY,
    expires_at=NOW + 4 * DAY,
    inviter="Maya Cohen",
    is_expiring=False,
)
TOTALS = MemberCounts(
    members=24,
    active=21,
    deactivated=3,
    admins=2,
    invitations=3,
    expired_invitations=1,
    seats=30,
    seats_used=27,
)


def shown(row: MemberRow | InvitationRow, read_sync: MemberListContext = READING) -> MemberListRowView:
    return build_row(row, read_sync, WORDS)


def page(
    *rows: MemberRow | InvitationRow, query: str = "", totals: MemberCounts = TOTALS, cursor: str = ""
) -> MemberListView:
    people = MemberListPage(rows=rows, totals=totals, warnings=(), next_cursor=cursor or None)
    return build_list_view(people, replace(READING, search=parse_search(query)), WORDS)


def test_the_header_counts_what_is_known() -> None:
    assert format_headline(TOTALS, WORDS) == "24 members · 3 invited · 27 of 30 seats"
    assert format_headline(replace(TOTALS, members=1, seats=None), WORDS) == "1 member · 3 invited"
    assert format_headline(replace(TOTALS, invitations=None, seats_used=None), WORDS) == "24 members"


@pytest.mark.parametrize(
    ("row", "text", "icon"),
    [
        (MAYA, "Active", "circle-check"),
        (replace(MAYA, status="deactivated"), "Deactivated", "circle-minus"),
        (NORA, "Invited", "mail"),
        (replace(NORA, is_expiring=True), "Expires soon", "clock-alert"),
        (replace(NORA, status="expired", expires_at=NOW - DAY), "Invite expired", "mail-x"),
    ],
)
def test_every_status_has_a_text_and_an_icon(row: MemberRow | InvitationRow, text: str, icon: str) -> None:
    status = shown(row).status
    assert (status.text, status.icon) == (text, icon)


def test_a_display_name_uses_the_known_fields() -> None:
    assert (shown(MAYA).name, shown(MAYA).detail) == ("Maya Cohen", "maya@x.example")
    nameless = replace(MAYA, first_name=None, last_name=None)
    assert (shown(nameless).name, shown(nameless).detail) == ("maya@x.example", "")
    assert shown(replace(nameless, username="mc", email=None)).name == "mc"
    assert shown(replace(nameless, email=None)).name == "No name"


def test_the_readers_own_row_is_marked() -> None:
    assert shown(MAYA).badges == (Badge("You", "brand"),)
    assert shown(replace(MAYA, user_id="usr_2")).badges == ()


def test_a_reader_without_an_account_has_no_own_row() -> None:
    """The break-glass key has no user id, and must not be "You" to a row without one."""
    key = Principal(kind="break_glass", name="Break-glass key")
    reading = replace(READING, access=replace(ACCESS, principal=key))
    assert shown(MAYA, reading).badges == ()


def test_an_invitation_shows_when_it_was_sent_and_expires() -> None:
    row = shown(NORA)
    assert (row.invited and row.invited.text, row.expires and row.expires.text) == ("3 d ago", "in 4 d")
    assert row.detail == "Invited by Maya Cohen"
    over = shown(replace(NORA, status="expired", expires_at=NOW - 2 * DAY))
    assert (over.is_expired, over.expires and over.expires.text) == (True, "2 d ago")
    assert shown(replace(NORA, inviter="user_2abc")).detail == ""


def test_an_invitation_just_sent_is_marked() -> None:
    assert shown(NORA, replace(READING, marked_invitation_id="orginv_1")).badges == (Badge("Sent", "good"),)


def test_a_member_without_admin_rights_has_no_actions() -> None:
    reader = replace(READING, access=replace(ACCESS, role=MEMBER_ROLE))
    assert [action.key for action in shown(MAYA).actions] == ["view", "role", "edit", "copy", "leave"]
    assert [action.key for action in shown(OMAR).actions] == ["view", "role", "edit", "copy", "deactivate", "remove"]
    assert [action.key for action in shown(NORA).actions] == ["resend", "link", "timeline", "revoke"]
    for row in (MAYA, OMAR, NORA):
        seen = shown(row, reader)
        assert (seen.actions, seen.role_choice, seen.selection_id) == ((), None, "")


def test_a_disabled_action_shows_its_reason() -> None:
    reasons = {it.key: it.reason for it in shown(replace(MAYA, email=None)).actions}
    assert reasons["copy"] == "No email address."
    last = shown(MAYA, replace(READING, admin_count=1))
    assert last.role_choice is not None
    assert {last.role_choice.reason, *(it.reason for it in last.actions if it.key in ("role", "leave"))} == {
        LAST_ADMIN_MESSAGE
    }
    annotations = RowAnnotations(
        operation_states={"membership:mbr_2": "open", "invitation:org_c:nora@x.example": "open"}
    )
    busy = replace(READING, annotations=annotations)
    assert shown(OMAR, busy).status.text == shown(NORA, busy).status.text == "Syncing"
    assert {it.reason for it in shown(NORA, busy).actions if it.post_url or it.is_destructive} == {
        "A change to this invitation is in progress."
    }


def test_a_cooldown_shows_when_resending_is_possible_again() -> None:
    cooling = replace(READING, annotations=RowAnnotations(cooldowns={"nora@x.example": NOW + 40_000}))
    assert shown(NORA, cooling).actions[0].reason == "Sent just now. You can resend it in 1 min."
    assert [it.key for it in shown(replace(NORA, status="expired")).actions] == ["resend", "timeline"]


def test_incomplete_changes_and_lost_invitations_need_attention() -> None:
    lost = LostInvitation(
        operation_id="op_1",
        invitation_id="orginv_1",
        email="ida@x.example",
        role=MEMBER_ROLE,
        reason="No.",
        is_retrying=False,
        lost_at=NOW,
    )
    annotations = RowAnnotations(lost_invitations=(lost,), operation_states={"standing:mbr_2": "attention"})
    seen = build_list_view(
        MemberListPage(rows=(OMAR,), totals=TOTALS, warnings=(), next_cursor=None),
        replace(READING, annotations=annotations),
        WORDS,
    )
    assert [(row.kind, row.status.text, bool(row.note)) for row in seen.rows] == [
        ("lost", "Invitation lost: send again", True),
        ("member", "Needs attention", True),
    ]
    assert seen.rows[0].actions[0].reason is None


@pytest.mark.parametrize(
    ("role", "said"), [("org:admin", "Admin"), ("org:case_lead", "Case lead"), ("viewer", "viewer"), ("", "")]
)
def test_roles_have_readable_names(role: str, said: str) -> None:
    assert format_role(role, {ADMIN_ROLE: "Admin"}) == said


def test_filter_menus_have_counts_and_urls() -> None:
    status, role, *_ = page(MAYA, query="status:invited").filter_menus
    assert [(it.label, it.count, it.is_on) for it in status.options] == [
        ("Active", 21, False),
        ("Invited", 3, True),
        ("Invite expired", 1, False),
        ("Deactivated", 3, False),
    ]
    assert (status.chosen, status.clear_url) == (("Invited",), "/m")
    assert [(it.label, it.count) for it in role.options] == [("Member", 19), ("Admin", 2)]
    assert role.options[1].href == "/m?q=role%3Aadmin+status%3Ainvited"


def test_the_menus_of_source_and_last_activity_are_single_choices() -> None:
    *_, source, active = page(MAYA, query="source:local").filter_menus
    assert (source.chosen, source.clear_url) == (("Without a Clerk account",), "/m")
    assert [it.href for it in source.options] == ["/m?q=source%3Aclerk", "/m"]
    assert [it.label for it in active.options] == [
        "In the last 7 days",
        "In the last 30 days",
        "Not in the last 30 days",
        "Never",
    ]
    assert active.options[2].href == "/m?q=source%3Alocal+active%3Aidle"


def test_the_deactivated_are_behind_a_link_until_a_status_is_chosen() -> None:
    assert page(MAYA).deactivated == 3
    assert page(MAYA).toggle_deactivated_url == "/m?deactivated=1"
    assert page(MAYA, query="status:invited").deactivated == 0


def test_an_empty_list_has_one_of_two_reasons() -> None:
    """Nobody matches, or nobody else is here; a list with rows says neither."""
    assert page(query="xy").empty_reason == "no_match"
    lonely = replace(TOTALS, members=1, active=1, deactivated=0, invitations=0, expired_invitations=0)
    assert page(MAYA, totals=lonely).empty_reason == "alone"
    assert page(MAYA, NORA).empty_reason == ""


def test_a_filtered_list_shows_the_number_of_results() -> None:
    assert page(MAYA).result_count == ""
    assert page(MAYA, query="maya").result_count == "1 result"
    assert page(MAYA, NORA, query="a").result_count == "2 results"
    assert page(MAYA, NORA, query="a", cursor="7b").result_count == "more than 2 results"
    assert page(MAYA, cursor="7b").next_page_url == "/m?cursor=7b"


def test_a_warning_is_shown() -> None:
    people = MemberListPage(rows=(MAYA,), totals=TOTALS, warnings=(INVITATIONS_UNAVAILABLE,), next_cursor=None)
    assert build_list_view(people, READING, WORDS).warnings == (INVITATIONS_UNAVAILABLE,)


def test_an_organization_without_an_active_admin_needs_attention() -> None:
    nobody = replace(TOTALS, admins=0)
    left = MemberListPage(rows=(MAYA,), totals=nobody, warnings=(), next_cursor=None)
    assert (
        build_list_view(left, READING, WORDS).attention_reason
        == "This organization has no active admin. Make someone an admin."
    )
    empty = replace(nobody, members=0)
    assert (
        build_list_view(
            MemberListPage(rows=(), totals=empty, warnings=(), next_cursor=None), READING, WORDS
        ).attention_reason
        == ""
    )
