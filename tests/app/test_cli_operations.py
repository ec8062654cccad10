"""What happened, from the command line: what is open, ending it by hand, and the audit."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from instep.app import cli_operations
from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.domain.errors import ChangeRejectedError
from instep.operations import repository
from instep.operations.workflow import Operation, OperationRequest
from instep.users.models import UserChanges
from tests.support.commands import call, firm_of_commands
from tests.support.world import Firm, make_firm
from tests.users.firms import BOB, furnish, users_of


@pytest.fixture
def firm(sqlite_migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    async def make() -> Firm:
        firm = await furnish(make_firm(sqlite_migrated_url))
        await users_of(firm).edit_profile(BREAK_GLASS_PRINCIPAL, firm.user_id(BOB), UserChanges(first_name="Robert"))
        return firm

    with firm_of_commands(make, cli_operations, monkeypatch) as firm:
        yield firm


def told(*args: str) -> Any:
    return json.loads(call(*args, "--json"))


def halfway(firm: Firm) -> Operation:
    """An operation that needs attention."""
    db, now = firm.services.db, firm.services.clock()
    asked = OperationRequest(kind="profile.edit", target="user:usr_1", actor="usr_1", intent={})
    operation = db.write_sync(repository.insert_operation, asked, now=now, until=now)
    assert operation is not None
    db.write_sync(repository.finish_operation, operation, "attention", now=now, reason="Refused halfway.", code="no")
    return operation


def test_open_operations_are_listed_and_ended_ones_on_request(firm: Firm) -> None:
    assert "needs attention" in call("operations")
    assert [(it["kind"], it["state"]) for it in told("operations", "--state", "settled")][:1] == [
        ("profile.edit", "settled")
    ]
    stuck = halfway(firm)
    assert [it["id"] for it in told("operations")] == [stuck.id]
    assert stuck.id in call("operations")
    assert told("operations", "--organization", "acme") == []


def test_an_operation_that_needs_attention_is_retried_or_abandoned(firm: Firm) -> None:
    stuck = halfway(firm)
    assert call("operations", "retry", stuck.id) == f"{stuck.id}: open\n"
    assert told("operations", "give-up", stuck.id)["state"] == "given_up"
    for again in ("retry", "give-up"):
        with pytest.raises(ChangeRejectedError):
            call("operations", again, stuck.id)
        with pytest.raises(ChangeRejectedError, match="no operation"):
            call("operations", again, "op_none")


def test_the_audit_log_lists_actors_and_unfinished_operations(firm: Firm) -> None:
    (asked, done) = reversed(told("audit", "--query", "profile.edit"))
    assert (asked["actor"], asked["outcome"], done["outcome"]) == ("break_glass", "asked", "done")
    assert "Robert" in json.dumps(asked["details"]["intent"])
    assert told("audit", "--unclosed") == []
    assert told("audit", "--person", "usr_nobody") == []
    assert "profile.edit" in call("audit", "--query", "profile")
