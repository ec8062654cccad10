"""Principals of Clerk users."""

from typing import Any

import pytest

from instep.auth.principal import AuthUserRow, DeniedPrincipal, OrganizationAccess, Principal, resolve_principal

NOBODY: frozenset[str] = frozenset()


def make_user(**changes: Any) -> AuthUserRow:
    row: dict[str, Any] = {
        "id": "usr_1",
        "email": "Maya@Example.com",
        "is_email_verified": True,
        "first_name": "Maya",
        "last_name": "Cohen",
        "username": None,
        "image_url": None,
        "public_metadata": {},
        "is_active": True,
        "is_banned": False,
        "deleted_at": None,
        "gone_at": None,
    }
    return AuthUserRow(**(row | changes))


def resolve(admins: frozenset[str] = NOBODY, **changes: Any) -> Principal:
    who = resolve_principal(make_user(**changes), "user_1", admins)
    assert isinstance(who, Principal)
    return who


def test_a_user_has_a_name_and_both_ids() -> None:
    who = resolve()
    assert (who.name, who.user_id, who.clerk_user_id, who.is_instance_admin) == ("Maya Cohen", "usr_1", "user_1", False)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"last_name": None}, "Maya"),
        ({"first_name": None, "last_name": None, "username": "maya"}, "maya"),
        ({"first_name": None, "last_name": None}, "Maya@Example.com"),
        ({"first_name": None, "last_name": None, "email": None}, "user_1"),
    ],
)
def test_every_user_has_a_name(changes: dict[str, Any], name: str) -> None:
    assert resolve(**changes).name == name


@pytest.mark.parametrize(
    ("admins", "changes", "is_admin"),
    [
        (NOBODY, {"public_metadata": {"role": "admin"}}, True),
        (NOBODY, {"public_metadata": {"role": "Admin"}}, False),
        (NOBODY, {"public_metadata": {"role": ["admin"]}}, False),
        (NOBODY, {"public_metadata": "admin"}, False),
        (NOBODY, {"public_metadata": None}, False),
        (frozenset({"user_1"}), {}, True),
        (frozenset({"user_2"}), {}, False),
        (frozenset({"maya@example.com"}), {}, True),
        (frozenset({"maya@example.com"}), {"is_email_verified": False}, False),
        (frozenset({""}), {"email": None}, False),
    ],
)
def test_instance_admins_come_from_metadata_or_settings(
    admins: frozenset[str], changes: dict[str, Any], is_admin: bool
) -> None:
    assert resolve(admins, **changes).is_instance_admin is is_admin


@pytest.mark.parametrize("changes", [{"is_active": False}, {"is_banned": True}, {"deleted_at": 1}, {"gone_at": 1}])
def test_deactivated_banned_and_deleted_users_are_denied_even_as_admins(changes: dict[str, Any]) -> None:
    who = resolve_principal(make_user(public_metadata={"role": "admin"}, **changes), "user_1", frozenset({"user_1"}))
    assert isinstance(who, DeniedPrincipal)
    assert not who.principal.is_instance_admin


def test_a_user_not_in_the_mirror_has_only_rights_from_the_settings() -> None:
    assert resolve_principal(None, "user_1", NOBODY) == Principal(kind="person", name="user_1", clerk_user_id="user_1")
    known = resolve_principal(None, "user_1", frozenset({"user_1"}))
    assert isinstance(known, Principal)
    assert known.is_instance_admin


def test_the_impersonating_user_is_recorded() -> None:
    who = resolve_principal(make_user(), "user_1", NOBODY, actor="user_boss")
    assert isinstance(who, Principal)
    assert who.actor == "user_boss"


@pytest.mark.parametrize(
    ("role", "is_instance_admin", "can_manage"),
    [("org:admin", False, True), ("org:member", False, False), (None, True, True), ("admin", False, False)],
)
def test_admins_manage_and_others_read(role: str | None, is_instance_admin: bool, can_manage: bool) -> None:
    principal = Principal(kind="person", name="Maya", is_instance_admin=is_instance_admin)
    access = OrganizationAccess(
        principal=principal,
        organization_id="orn_1",
        organization_clerk_id=None,
        organization_name="Firm",
        organization_slug=None,
        role=role,
    )
    assert access.can_manage is can_manage
