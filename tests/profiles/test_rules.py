"""Who may change whom, and what may be written: three-line tests of values."""

import contextlib

import pytest

from instep.access.principal import BREAK_GLASS, Principal
from instep.identity.model import ADMIN, MEMBER
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import Refused
from instep.profiles.rules import Edit, Rights, Tie, checked, not_synced, require_edit, require_not_self, rights_of

ADA = Principal(kind="person", name="Ada", user_id="usr_ada")
ROOT = Principal(kind="person", name="Root", user_id="usr_root", is_instance_admin=True)
ALL = ("first_name", "last_name", "username", "email", "public_metadata", "attributes")


def tie(own: str = ADMIN, theirs: str = MEMBER) -> Tie:
    return Tie(organization_id="ogn_1", is_admin=own == ADMIN, theirs=theirs)


def may(rights: Rights) -> set[str]:
    """The fields that may be changed."""
    allowed = set()
    for field in ALL:
        with contextlib.suppress(Refused):
            require_edit(rights, [field])
            allowed.add(field)
    return allowed


def test_an_instance_admin_changes_everything_of_anyone() -> None:
    for principal in (ROOT, BREAK_GLASS):
        for is_above_all in (True, False):
            assert may(rights_of(principal, "usr_bob", [], is_above_all=is_above_all)) == set(ALL)


def test_everyone_changes_their_own_names() -> None:
    assert may(rights_of(ADA, "usr_ada", [], is_above_all=False)) == {"first_name", "last_name"}


def test_an_organizations_admin_changes_names_of_its_people() -> None:
    for theirs in (MEMBER, ADMIN, "org:billing"):
        rights = rights_of(ADA, "usr_bob", [tie(theirs=theirs)], is_above_all=False)
        assert may(rights) == {"first_name", "last_name", "username"}
        assert rights.led == {"ogn_1"}


def test_an_organizations_admin_is_not_above_an_instance_admin() -> None:
    rights = rights_of(ADA, "usr_root", [tie()], is_above_all=True)
    assert (may(rights), rights.may_see) == (set(), True)


def test_a_fellow_member_sees_and_changes_nothing() -> None:
    rights = rights_of(ADA, "usr_bob", [tie(own=MEMBER)], is_above_all=False)
    assert (may(rights), rights.may_see, rights.led) == (set(), True, frozenset())


def test_a_stranger_is_not_even_there() -> None:
    assert not rights_of(ADA, "usr_bob", [], is_above_all=False).may_see


def test_someone_unknown_to_the_mirror_is_nobody() -> None:
    new = Principal(kind="person", name="New", clerk_user_id="user_new")
    assert not rights_of(new, "usr_bob", [], is_above_all=False).is_self


def test_nobody_locks_themselves_out() -> None:
    with pytest.raises(Refused, match="You can't ban yourself"):
        require_not_self(rights_of(ROOT, "usr_root", [], is_above_all=True), "ban")


def test_names_lose_the_space_around_them_and_an_empty_one_clears() -> None:
    edit = checked(Edit(first_name=" Ada ", last_name="", email=" Ada@Example.COM "))
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
    refusal = ProviderRefused("No.", code=code, status=status, trace_id="trace_1")
    said = not_synced(refusal, {"profile": {"username": "ada"}}, whom="Ada")
    assert (said.code, said.status) == ours
    assert (said.clerk_code, said.trace_id) == (code, "trace_1")
    assert str(said).startswith("Failed to sync with Clerk authentication system: ") is (ours[0] == "clerk_sync_failed")
