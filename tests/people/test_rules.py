"""Who may change whom: nobody raises themselves, nobody acts above their own role, and an admin has to stay."""

from collections.abc import Callable
from typing import Any

import pytest

from instep.access.principal import BREAK_GLASS, Access, Principal
from instep.identity.model import ADMIN, MEMBER
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import Refused
from instep.identity.standing import LEAVES, LEAVES_EVERYWHERE, RISES, underway
from instep.people import rules
from instep.people.rules import Member


def access(role: str | None = ADMIN, n: int = 1, **changes: Any) -> Access:
    principal = Principal(kind="person", name=f"Person {n}", user_id=f"usr_{n}", clerk_user_id=f"user_{n}")
    fields: dict[str, Any] = {
        "principal": principal,
        "organization_id": "ogn_1",
        "organization_clerk_id": "org_1",
        "organization_name": "Acme",
        "organization_slug": "acme",
        "role": role,
    }
    return Access(**(fields | changes))


def member(n: int = 2, **changes: Any) -> Member:
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
        "role": MEMBER,
        "status": "active",
        "sort_name": "maya cohen",
        "joined_at": 1,
        "last_active_at": None,
        "deactivation": None,
        "is_live": True,
    }
    return Member(**(fields | changes))


def code_of(check: Callable[..., None], *args: Any) -> str | None:
    """Why not; None where it may be done."""
    try:
        check(*args)
    except Refused as refused:
        return refused.code
    return None


OUT: dict[str, Any] = {"status": "removed"}
ASIDE: dict[str, Any] = {"status": "deactivated", "deactivation": "database"}
BY_KEY: dict[str, Any] = {"principal": BREAK_GLASS, "role": None}


@pytest.mark.parametrize(
    ("who", "whom", "role", "why_not"),
    [
        (access(), member(), ADMIN, None),
        (access(), member(role=ADMIN), MEMBER, None),
        (access(), member(), "org:clerk", None),
        (access(), member(1, role=ADMIN), MEMBER, None),
        (access(**BY_KEY), member(), ADMIN, None),
        (access(MEMBER), member(), MEMBER, "forbidden"),
        (access(MEMBER), member(1), ADMIN, "forbidden"),
        (access(None), member(), ADMIN, "forbidden"),
        (access(), member(), "admin", None),
        (access(organization_clerk_id=None), member(), "admin", "unknown_role"),
        (access(), member(), "org:admin\n", "unknown_role"),
        (access(organization_clerk_id=None), member(), "org:clerk", "unknown_role"),
        (access(), member(**ASIDE), ADMIN, "deactivated"),
        (access(), member(**OUT), ADMIN, "not_a_member"),
    ],
)
def test_who_may_give_which_role(who: Access, whom: Member, role: str, why_not: str | None) -> None:
    assert code_of(rules.check_role, who, whom, role) == why_not


def test_nobody_raises_themselves_not_even_an_instance_admin() -> None:
    principal = Principal(kind="person", name="Root", user_id="usr_1", is_instance_admin=True)
    who = access(MEMBER, principal=principal)
    assert code_of(rules.check_role, who, member(1), ADMIN) == "raises_self"
    assert code_of(rules.check_role, who, member(2), ADMIN) is None


@pytest.mark.parametrize(
    ("check", "who", "whom", "why_not"),
    [
        (rules.check_deactivate, access(), member(), None),
        (rules.check_deactivate, access(), member(role=ADMIN), None),
        (rules.check_deactivate, access(), member(1, role=ADMIN), "yourself"),
        (rules.check_deactivate, access(MEMBER), member(role=ADMIN), "forbidden"),
        (rules.check_deactivate, access(), member(**ASIDE), "deactivated"),
        (rules.check_deactivate, access(), member(**OUT), "not_a_member"),
        (rules.check_reactivate, access(), member(**ASIDE), None),
        (rules.check_reactivate, access(), member(), "active"),
        (rules.check_reactivate, access(MEMBER), member(**ASIDE), "forbidden"),
        (rules.check_reactivate, access(), member(**OUT), "not_a_member"),
        (rules.check_remove, access(), member(), None),
        (rules.check_remove, access(), member(**ASIDE), None),
        (rules.check_remove, access(), member(1, role=ADMIN), "yourself"),
        (rules.check_remove, access(), member(**OUT), "not_a_member"),
        (rules.check_remove, access(MEMBER), member(), "forbidden"),
        (rules.check_restore, access(), member(**OUT), None),
        (rules.check_restore, access(), member(**OUT, is_live=False, deactivation="ban"), None),
        (rules.check_restore, access(), member(**OUT, is_live=False), "not_live"),
        (rules.check_restore, access(), member(), "already_member"),
        (rules.check_restore, access(), member(**OUT, clerk_user_id=None), "invite_instead"),
        (rules.check_restore, access(MEMBER), member(**OUT), "forbidden"),
        (rules.check_leave, access(MEMBER), member(1), None),
        (rules.check_leave, access(MEMBER), member(2), "not_a_member"),
        (rules.check_leave, access(MEMBER), member(1, **ASIDE), "not_a_member"),
    ],
)
def test_who_may_do_what_with_whom(check: Callable[..., None], who: Access, whom: Member, why_not: str | None) -> None:
    assert code_of(check, who, whom) == why_not


@pytest.mark.parametrize(
    ("own", "whom", "why_not"),
    [
        (member(1, role=ADMIN), member(), None),
        (member(1, role=ADMIN), member(role=ADMIN), None),
        (member(1), member(), "not_owner"),
        (None, member(), "not_owner"),
        (member(1, role=ADMIN), member(1, role=ADMIN), "yourself"),
        (member(1, role=ADMIN), member(**ASIDE), "deactivated"),
        (member(1, role=ADMIN), member(is_live=False), "not_live"),
    ],
)
def test_only_an_admin_hands_over_and_only_to_someone_who_is_in(
    own: Member | None, whom: Member, why_not: str | None
) -> None:
    assert code_of(rules.check_transfer, access(), own, whom) == why_not


@pytest.mark.parametrize(
    ("whom", "admins", "intents", "why_not"),
    [
        (member(role=ADMIN), {"mbr_1", "mbr_2"}, [], None),
        (member(role=ADMIN), {"mbr_2"}, [], "last_admin"),
        (member(), {"mbr_1"}, [], None),
        (member(role=ADMIN, **ASIDE), {"mbr_1"}, [], None),
        (member(role=ADMIN), {"mbr_1", "mbr_2"}, [{LEAVES: "mbr_1"}], "last_admin"),
        (member(role=ADMIN), {"mbr_1", "mbr_2", "mbr_3"}, [{LEAVES: "mbr_1"}], None),
        (member(), {"mbr_1"}, [{LEAVES: "mbr_1", RISES: "mbr_2"}], "last_admin"),
        (member(role=ADMIN), {"mbr_1", "mbr_2"}, [{LEAVES_EVERYWHERE: "usr_1"}], "last_admin"),
        (member(role=ADMIN), {"mbr_1", "mbr_2"}, [{"email": "x", LEAVES: None}], None),
    ],
)
def test_the_last_admin_stays_counting_what_is_under_way(
    whom: Member, admins: set[str], intents: list[dict[str, Any]], why_not: str | None
) -> None:
    whose = {id: id.replace("mbr", "usr") for id in admins}
    assert code_of(rules.check_admin_stays, whom, whose, underway(intents)) == why_not


def test_clerks_refusals_are_said_so_that_one_knows_what_to_do() -> None:
    unknown = ProviderRefused("Organization role not found", code="resource_not_found", status=404)
    assert str(rules.in_words(unknown, member=member(), role="org:x")) == "org:x is not a role here."
    gone = ProviderRefused("No user was found", code="resource_not_found", status=404)
    assert str(rules.in_words(gone, member=member())).startswith("Maya Cohen was not found in Clerk.")
    scim = ProviderRefused("No", code="organization_membership_managed_by_scim", status=409)
    assert rules.in_words(scim, member=member()).code == "managed_by_directory"


def test_what_clerk_did_not_do_is_told() -> None:
    paid = {"follow": {"refused": "unsupported_subscription_plan_features", "status": 402, "words": "No."}}
    assert rules.notices_of(paid) == ("Your Clerk plan has no bans. Deactivated here, and signed out everywhere.",)
    assert rules.notices_of({"follow": {"is_elsewhere": True}})[0].endswith("was not banned.")
    both = {
        "follow": {"refused": "x", "status": 409, "words": "Managed."},
        "sessions": {"refused": "y", "status": 401, "words": "No key."},
    }
    assert rules.notices_of(both) == (
        "Deactivated here; Clerk did not follow: Managed.",
        "Their sessions in Clerk could not be ended: No key.",
    )
    assert rules.notices_of({"follow": {}, "sessions": {"ended": 2}}) == ()
