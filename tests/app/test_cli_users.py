"""People from the command line, against a whole firm."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from instep.core.errors import PermanentError
from instep.users import cli
from tests.support.commands import call, firm_of_commands, invoke
from tests.support.world import Firm, make_firm
from tests.users.firms import ADA, BOB, LOU, furnish


@pytest.fixture
def firm(sqlite_migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    async def make() -> Firm:
        return await furnish(make_firm(sqlite_migrated_url))

    with firm_of_commands(make, cli, monkeypatch) as firm:
        yield firm


def told(*args: str, text: str | None = None) -> Any:
    return json.loads(call(*args, "--json", text=text))


def test_people_are_listed_and_found(firm: Firm) -> None:
    assert {it["email"] for it in told("users")["data"]} >= {ADA, BOB, LOU}
    assert [it["email"] for it in told("users", "--status", "local")["data"]] == [LOU]
    page = told("users", "--organization", "acme", "--limit", "1")
    assert len(told("users", "--organization", "acme", "--cursor", page["next_cursor"])["data"]) == 1
    assert "Acme (org:member)" in call("users", "--query", BOB).replace("\n", " ") or "Acme" in call("users")
    assert "More: --cursor" in call("users", "--limit", "1")
    assert f"<{BOB}>: active" in call("user", BOB)
    for args in (("users", "--status", "odd"), ("user", "nobody@example.com"), ("user", "usr_none")):
        with pytest.raises(PermanentError):
            call(*args)


def test_a_profile_is_edited_on_both_sides(firm: Firm) -> None:
    edited = told("edit", BOB, "--first-name", "Robert", "--last-name", "", "--data", '{"attributes": {"floor": 3}}')
    assert (edited["first_name"], edited["last_name"], edited["attributes"]) == ("Robert", None, {"floor": 3})
    there = firm.emulator.state.users.find(edited["clerk_id"])
    assert there is not None
    assert there.first_name == "Robert"
    for data in ("[]", "{", '{"odd": 1}'):
        with pytest.raises(PermanentError, match="--data is not valid"):
            call("edit", BOB, "--data", data)


def test_a_user_is_created_banned_unbanned_deleted_and_restored(firm: Firm) -> None:
    made = told("user-create", "dora@example.com", "--first-name", "Dora")
    assert (made["status"], made["external_id"]) == ("active", made["id"])
    assert told("user-create", "eve@example.com", "--local")["status"] == "local"
    assert told("user-ban", "dora@example.com")["status"] == "banned"
    assert told("user-unban", "dora@example.com")["status"] == "active"
    assert told("user-delete", "dora@example.com", "--clerk", "keep")["status"] == "deleted"
    assert told("user-restore", "dora@example.com")["clerk_id"] == made["clerk_id"]
    assert "deleted" in call("user-delete", made["id"])
    assert "without a Clerk account" in call("user-restore", made["id"])
    with pytest.raises(PermanentError, match="delete, ban or keep"):
        call("user-delete", made["id"], "--clerk", "odd")


def test_an_email_change_is_confirmed_before_a_new_invitation(firm: Firm) -> None:
    offered = told("user-email", BOB, "robert@example.com")
    assert offered["requires_invitation"]
    refused = invoke("user-email", BOB, "robert@example.com", text="n\n")
    assert "robert@example.com is invited to Acme" in refused.output
    assert "Beta: invited" in call("user-email", BOB, "robert@example.com", text="y\n")
    assert told("user", BOB)["status"] == "deactivated"


def test_a_password_is_prompted_for(firm: Firm) -> None:
    assert "active" in call("user-password", BOB, text="correct horse battery\n")
    with pytest.raises(PermanentError, match="Clerk does not accept this password"):
        call("user-password", BOB, text="short\n")


def test_a_new_email_is_verified_by_its_code(firm: Firm) -> None:
    object.__setattr__(firm.services.users.emails, "policy", "verify")
    new = "robert+clerk_test@example.com"
    begun = told("user-email", BOB, new)
    assert "instep user-verify" in call("user-email", BOB, new)
    assert "changed" in call("user-verify", BOB, begun["verification"], text="424242\n")
    assert told("user", new)["username"] == "bobby"
