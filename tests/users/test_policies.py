"""Permission rules and validation, as pure functions."""

import contextlib

import pytest

from instep.auth.principal import BREAK_GLASS_PRINCIPAL, Principal
from instep.domain.errors import ChangeRejectedError, ClerkRejectedError
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.users.models import SharedOrganization, UserChanges, UserPermissions
from instep.users.policies import (
    determine_permissions,
    require_can_edit,
    require_not_self,
    translate_provider_refusal,
    validate_changes,
)

ADA = Principal(kind="person", name="Ada", user_id="usr_ada")
ROOT = Principal(kind="person", name="Root", user_id="usr_root", is_instance_admin=True)
ALL = ("first_name", "last_name", "username", "email", "public_metadata", "attributes")


def tie(own: str = ADMIN_ROLE, theirs: str = MEMBER_ROLE) -> SharedOrganization:
    return SharedOrganization(organization_id="ogn_1", is_caller_admin=own == ADMIN_ROLE, role=theirs)


def may(rights: UserPermissions) -> set[str]:
    """The fields that may be changed."""
    allowed = set()
    for field in ALL:
        with contextlib.suppress(ChangeRejectedError):
            require_can_edit(rights, [field])
            allowed.add(field)
    return allowed


def test_an_instance_admin_changes_everything_of_anyone() -> None:
    for principal in (ROOT, BREAK_GLASS_PRINCIPAL):
        for is_instance_admin in (True, False):
            assert may(
                determine_permissions(principal, "usr_bob", [], is_target_instance_admin=is_instance_admin)
            ) == set(ALL)


def test_everyone_changes_their_own_names() -> None:
    assert may(determine_permissions(ADA, "usr_ada", [], is_target_instance_admin=False)) == {"first_name", "last_name"}


def test_an_organization_admin_changes_names_of_its_members() -> None:
    for theirs in (MEMBER_ROLE, ADMIN_ROLE, "org:billing"):
        rights = determine_permissions(ADA, "usr_bob", [tie(theirs=theirs)], is_target_instance_admin=False)
        assert may(rights) == {"first_name", "last_name", "username"}
        assert rights.managed_organization_ids == {"ogn_1"}


def test_an_organization_admin_does_not_manage_an_instance_admin() -> None:
    rights = determine_permissions(ADA, "usr_root", [tie()], is_target_instance_admin=True)
    assert (may(rights), rights.can_see) == (set(), True)


def test_a_fellow_member_sees_and_changes_nothing() -> None:
    rights = determine_permissions(ADA, "usr_bob", [tie(own=MEMBER_ROLE)], is_target_instance_admin=False)
    assert (may(rights), rights.can_see, rights.managed_organization_ids) == (set(), True, frozenset())


def test_an_unrelated_user_is_not_visible() -> None:
    assert not determine_permissions(ADA, "usr_bob", [], is_target_instance_admin=False).can_see


def test_a_caller_unknown_to_the_mirror_is_not_the_user() -> None:
    new = Principal(kind="person", name="New", clerk_user_id="user_new")
    assert not determine_permissions(new, "usr_bob", [], is_target_instance_admin=False).is_self


def test_nobody_locks_themselves_out() -> None:
    with pytest.raises(ChangeRejectedError, match="You can't ban yourself"):
        require_not_self(determine_permissions(ROOT, "usr_root", [], is_target_instance_admin=True), "ban")


def test_names_are_stripped_and_an_empty_one_clears() -> None:
    edit = validate_changes(UserChanges(first_name=" Ada ", last_name="", email=" Ada@Example.COM "))
    assert (edit.first_name, edit.last_name, edit.email) == ("Ada", "", "Ada@example.com")
    assert edit.fields == {"first_name": "Ada", "last_name": "", "email": "Ada@example.com"}


@pytest.mark.parametrize(
    ("code", "status", "ours"),
    [
        ("not_configured", 401, ("clerk_sync_failed", 503)),
        ("clerk_failed", 500, ("clerk_sync_failed", 503)),
        ("resource_not_found", 404, ("clerk_sync_failed", 409)),
        ("something_new", 422, ("clerk_sync_failed", 422)),
        ("attribute_managed_by_scim", 409, ("managed_by_directory", 409)),
        ("form_identifier_exists", 422, ("username_taken", 409)),
    ],
)
def test_clerks_refusals_have_stable_codes(code: str, status: int, ours: tuple[str, int]) -> None:
    refusal = ClerkRejectedError("No.", code=code, status=status, trace_id="trace_1")
    error = translate_provider_refusal(refusal, {"profile": {"username": "ada"}}, display_name="Ada")
    assert (error.code, error.status) == ours
    assert (error.clerk_code, error.trace_id) == (code, "trace_1")
    assert str(error).startswith("Failed to sync with Clerk authentication system: ") is (
        ours[0] == "clerk_sync_failed"
    )
