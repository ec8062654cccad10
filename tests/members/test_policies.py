"""Permission rules: nobody raises their own role, nobody acts above it, and an admin has to stay."""

from collections.abc import Callable
from typing import Any

import pytest

from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess, Principal
from instep.domain.errors import ChangeRejectedError, ClerkRejectedError
from instep.domain.last_admin import ADMIN_GAIN_KEY, ADMIN_LOSS_KEY, USER_REMOVAL_KEY, collect_pending_changes
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.members import policies
from instep.members.models import MemberRecord


def access(role: str | None = ADMIN_ROLE, n: int = 1, **changes: Any) -> OrganizationAccess:
    principal = Principal(kind="person", name=f"Person {n}", user_id=f"usr_{n}", clerk_user_id=f"user_{n}")
    fields: dict[str, Any] = {
        "principal": principal,
        "organization_id": "ogn_1",
        "organization_clerk_id": "org_1",
        "organization_name": "Acme",
        "organization_slug": "acme",
        "role": role,
    }
    return OrganizationAccess(**(fields | changes))


def member(n: int = 2, **changes: Any) -> MemberRecord:
    fields: dict[str, Any] = {
        "id": f"mbr_{n}",
        "clerk_id": f"orgmem_{n}",
        "user_id": f"usr_{n}",
        "clerk_user_id": f"user_{n}",
        "email": f"person{n}@example.com",
        "first_name": "Maya",
        "last_name": "Cohen",
        "username": None,
        "image_url": None,
        "role": MEMBER_ROLE,
        "status": "active",
        "sort_name": "maya cohen",
        "joined_at": 1,
        "last_active_at": None,
        "deactivation": None,
        "is_live": True,
    }
    return MemberRecord(**(fields | changes))


def code_of(check: Callable[..., None], *args: Any) -> str | None:
    """Why not; None where it may be done."""
    try:
        check(*args)
    except ChangeRejectedError as refused:
        return refused.code
    return None


OUT: dict[str, Any] = {"status": "removed"}
ASIDE: dict[str, Any] = {"status": "deactivated", "deactivation": "database"}
BY_KEY: dict[str, Any] = {"principal": BREAK_GLASS_PRINCIPAL, "role": None}


@pytest.mark.parametrize(
    ("who", "whom", "role", "why_not"),
    [
        (access(), member(), ADMIN_ROLE, None),
        (access(), member(role=ADMIN_ROLE), MEMBER_ROLE, None),
        (access(), member(), "org:clerk", None),
        (access(), member(1, role=ADMIN_ROLE), MEMBER_ROLE, None),
        (access(**BY_KEY), member(), ADMIN_ROLE, None),
        (access(MEMBER_ROLE), member(), MEMBER_ROLE, "forbidden"),
        (access(MEMBER_ROLE), member(1), ADMIN_ROLE, "forbidden"),
        (access(None), member(), ADMIN_ROLE, "forbidden"),
        (access(), member(), "admin", None),
        (access(organization_clerk_id=None), member(), "admin", "unknown_role"),
        (access(), member(), "org:admin\n", "unknown_role"),
        (access(organization_clerk_id=None), member(), "org:clerk", "unknown_role"),
        (access(), member(**ASIDE), ADMIN_ROLE, "deactivated"),
        (access(), member(**OUT), ADMIN_ROLE, "not_a_member"),
    ],
)
def test_permission_to_assign_a_role(
    who: OrganizationAccess, whom: MemberRecord, role: str, why_not: str | None
) -> None:
    assert code_of(policies.check_role, who, whom, role) == why_not


def test_nobody_raises_their_own_role_not_even_an_instance_admin() -> None:
    principal = Principal(kind="person", name="Root", user_id="usr_1", is_instance_admin=True)
    who = access(MEMBER_ROLE, principal=principal)
    assert code_of(policies.check_role, who, member(1), ADMIN_ROLE) == "raises_self"
    assert code_of(policies.check_role, who, member(2), ADMIN_ROLE) is None


@pytest.mark.parametrize(
    ("check", "who", "whom", "why_not"),
    [
        (policies.check_deactivate, access(), member(), None),
        (policies.check_deactivate, access(), member(role=ADMIN_ROLE), None),
        (policies.check_deactivate, access(), member(1, role=ADMIN_ROLE), "yourself"),
        (policies.check_deactivate, access(MEMBER_ROLE), member(role=ADMIN_ROLE), "forbidden"),
        (policies.check_deactivate, access(), member(**ASIDE), "deactivated"),
        (policies.check_deactivate, access(), member(**OUT), "not_a_member"),
        (policies.check_reactivate, access(), member(**ASIDE), None),
        (policies.check_reactivate, access(), member(), "active"),
        (policies.check_reactivate, access(MEMBER_ROLE), member(**ASIDE), "forbidden"),
        (policies.check_reactivate, access(), member(**OUT), "not_a_member"),
        (policies.check_remove, access(), member(), None),
        (policies.check_remove, access(), member(**ASIDE), None),
        (policies.check_remove, access(), member(1, role=ADMIN_ROLE), "yourself"),
        (policies.check_remove, access(), member(**OUT), "not_a_member"),
        (policies.check_remove, access(MEMBER_ROLE), member(), "forbidden"),
        (policies.check_restore, access(), member(**OUT), None),
        (policies.check_restore, access(), member(**OUT, is_live=False, deactivation="ban"), None),
        (policies.check_restore, access(), member(**OUT, is_live=False), "not_live"),
        (policies.check_restore, access(), member(), "already_member"),
        (policies.check_restore, access(), member(**OUT, clerk_user_id=None), "invite_instead"),
        (policies.check_restore, access(MEMBER_ROLE), member(**OUT), "forbidden"),
        (policies.check_leave, access(MEMBER_ROLE), member(1), None),
        (policies.check_leave, access(MEMBER_ROLE), member(2), "not_a_member"),
        (policies.check_leave, access(MEMBER_ROLE), member(1, **ASIDE), "not_a_member"),
    ],
)
def test_permission_of_each_change(
    check: Callable[..., None], who: OrganizationAccess, whom: MemberRecord, why_not: str | None
) -> None:
    assert code_of(check, who, whom) == why_not


@pytest.mark.parametrize(
    ("own", "whom", "why_not"),
    [
        (member(1, role=ADMIN_ROLE), member(), None),
        (member(1, role=ADMIN_ROLE), member(role=ADMIN_ROLE), None),
        (member(1), member(), "not_owner"),
        (None, member(), "not_owner"),
        (member(1, role=ADMIN_ROLE), member(1, role=ADMIN_ROLE), "yourself"),
        (member(1, role=ADMIN_ROLE), member(**ASIDE), "deactivated"),
        (member(1, role=ADMIN_ROLE), member(is_live=False), "not_live"),
    ],
)
def test_only_an_admin_transfers_and_only_to_an_active_member(
    own: MemberRecord | None, whom: MemberRecord, why_not: str | None
) -> None:
    assert code_of(policies.check_transfer, access(), own, whom) == why_not


@pytest.mark.parametrize(
    ("whom", "admins", "intents", "why_not"),
    [
        (member(role=ADMIN_ROLE), {"mbr_1", "mbr_2"}, [], None),
        (member(role=ADMIN_ROLE), {"mbr_2"}, [], "last_admin"),
        (member(), {"mbr_1"}, [], None),
        (member(role=ADMIN_ROLE, **ASIDE), {"mbr_1"}, [], None),
        (member(role=ADMIN_ROLE), {"mbr_1", "mbr_2"}, [{ADMIN_LOSS_KEY: "mbr_1"}], "last_admin"),
        (member(role=ADMIN_ROLE), {"mbr_1", "mbr_2", "mbr_3"}, [{ADMIN_LOSS_KEY: "mbr_1"}], None),
        (member(), {"mbr_1"}, [{ADMIN_LOSS_KEY: "mbr_1", ADMIN_GAIN_KEY: "mbr_2"}], "last_admin"),
        (member(role=ADMIN_ROLE), {"mbr_1", "mbr_2"}, [{USER_REMOVAL_KEY: "usr_1"}], "last_admin"),
        (member(role=ADMIN_ROLE), {"mbr_1", "mbr_2"}, [{"email": "x", ADMIN_LOSS_KEY: None}], None),
    ],
)
def test_the_last_admin_guard_counts_pending_operations(
    whom: MemberRecord, admins: set[str], intents: list[dict[str, Any]], why_not: str | None
) -> None:
    whose = {id: id.replace("mbr", "usr") for id in admins}
    assert code_of(policies.check_admin_stays, whom, whose, collect_pending_changes(intents)) == why_not


def test_refusals_of_clerk_are_translated_to_readable_sentences() -> None:
    unknown = ClerkRejectedError("Organization role not found", code="resource_not_found", status=404)
    assert str(policies.translate_refusal(unknown, member=member(), role="org:x")) == (
        "The role org:x does not exist in this organization."
    )
    gone = ClerkRejectedError("No user was found", code="resource_not_found", status=404)
    assert str(policies.translate_refusal(gone, member=member())).startswith("Maya Cohen was not found in Clerk.")
    scim = ClerkRejectedError("No", code="organization_membership_managed_by_scim", status=409)
    assert policies.translate_refusal(scim, member=member()).code == "managed_by_directory"


def test_notices_report_the_parts_that_clerk_refused() -> None:
    paid = {"follow": {"refused": "unsupported_subscription_plan_features", "status": 402, "words": "No."}}
    assert policies.build_notices(paid) == (
        "Your Clerk plan does not include bans. Deactivated here, and signed out everywhere.",
    )
    assert policies.build_notices({"follow": {"is_elsewhere": True}})[0].endswith("was not banned.")
    both = {
        "follow": {"refused": "x", "status": 409, "words": "Managed."},
        "sessions": {"refused": "y", "status": 401, "words": "No key."},
    }
    assert policies.build_notices(both) == (
        "Deactivated here, but not in Clerk: Managed.",
        "Their sessions in Clerk could not be ended: No key.",
    )
    assert policies.build_notices({"follow": {}, "sessions": {"ended": 2}}) == ()
