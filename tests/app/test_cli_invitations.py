"""Invitations from the command line, against a whole firm."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from instep.core.errors import InstepError
from instep.invitations import cli
from tests.invitations.firms import furnish, statuses
from tests.support.commands import call, firm_of_commands
from tests.support.world import Firm, make_firm


@pytest.fixture
def firm(sqlite_migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    async def make() -> Firm:
        return await furnish(make_firm(sqlite_migrated_url))

    with firm_of_commands(make, cli, monkeypatch) as firm:
        yield firm


def test_an_invitation_is_created_resent_by_email_and_revoked_by_id(firm: Firm) -> None:
    made = json.loads(call("invite", "acme", "maya@example.com", "--role", "org:admin", "--days", "3", "--json"))
    assert (made["email"], made["role"], made["status"]) == ("maya@example.com", "org:admin", "pending")
    again = json.loads(call("resend", "acme", "maya@example.com", "--no-mail", "--json"))
    assert again["id"] != made["id"]
    assert "maya@example.com: revoked, org:admin" in call("revoke", "acme", again["id"])
    assert statuses(firm) == ["revoked", "revoked"]


def test_many_are_invited_from_arguments_files_and_standard_input(firm: Firm, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("email,role,name\nleo@example.com,admin,Leo\nada@acme.example,,\n")
    args = ("acme", "maya@example.com", f"@{file}", "-")
    preview = json.loads(call("preview-invitations", *args, "--json", text="mia@example.com\n"))
    assert [it["verdict"] for it in preview["lines"]] == ["new", "new", "member", "new"]
    assert statuses(firm) == []
    batch = json.loads(call("invite", *args, "--json", text="mia@example.com\n"))
    assert batch["state"] == "done"
    assert [row["status"] for row in batch["rows"]] == ["sent", "sent", "skipped", "sent"]
    assert statuses(firm) == ["pending"] * 3
    assert "Already has a pending invitation." in call("invite", "acme", "maya@example.com", "new@example.com")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("invite", "acme", "nobody"), "nobody is not a valid email address."),
        (("invite", "nowhere", "maya@example.com"), "There is no organization nowhere."),
        (("invite", "acme", "@/nowhere.csv"), "Cannot read"),
        (("resend", "acme", "maya@example.com"), "maya@example.com has no pending or expired invitation."),
        (("revoke", "acme", "orginv_none"), "No longer in Clerk."),
    ],
)
def test_a_refusal_is_one_sentence(firm: Firm, args: tuple[str, ...], words: str) -> None:
    with pytest.raises(InstepError, match=words):
        call(*args)
