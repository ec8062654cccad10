"""Whoever may see what happened sees it, tries again what failed, and ends what can't be finished."""

from typing import Any

import pytest

from instep.audit.filters import AuditFilter
from instep.audit.repository import NewAuditEntry, list_entries, record_entries
from instep.audit.service import AuditService
from instep.auth.admin_scope import resolve_admin_scope
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess, Principal
from instep.core.clock import Millis
from instep.core.db import Conn, Database
from instep.core.errors import PermanentError
from instep.domain.errors import ChangeRejectedError
from instep.operations import repository
from instep.operations.service import OperationService
from instep.operations.workflow import Operation, OperationRequest

pytestmark = pytest.mark.anyio

PERSON = Principal(kind="person", name="Maya", user_id="usr_1", clerk_user_id="user_1")


def access(role: str | None, principal: Principal = PERSON, organization: str = "ogn_1") -> OrganizationAccess:
    return OrganizationAccess(
        principal=principal,
        organization_id=organization,
        organization_clerk_id="org_1",
        organization_name="Firm",
        organization_slug="firm",
        role=role,
    )


def make(db: Database, notes: list[str] | None = None) -> OperationService:
    def noted(_conn: Conn, operation: Operation) -> None:
        (notes if notes is not None else []).append(operation.state)

    return OperationService(db=db, record_audit=noted, clock=lambda: Millis(9_000))


def put(db: Database, **changes: Any) -> Operation:
    fields = {"kind": "member.role", "target": "membership:1", "actor": "usr_1", "intent": {}}
    asked = OperationRequest(**(fields | {"organization_id": "ogn_1"} | changes))
    operation = db.write_sync(repository.insert_operation, asked, now=1, until=2)
    assert operation is not None
    return operation


def test_an_admin_reads_their_organization_and_an_instance_admin_everything() -> None:
    assert resolve_admin_scope(PERSON, access("org:admin")) == "ogn_1"
    assert resolve_admin_scope(BREAK_GLASS_PRINCIPAL, None) is None
    for asker, where in ((PERSON, access("org:member")), (PERSON, None)):
        with pytest.raises(ChangeRejectedError, match="Only admins"):
            resolve_admin_scope(asker, where)


async def test_an_operation_of_another_organization_does_not_exist(db: Database) -> None:
    operation = put(db)
    theirs = {"ogn_1": access("org:admin")}
    assert (await make(db).get(PERSON, theirs, operation.id)).id == operation.id
    for accesses in ({}, {"ogn_2": access("org:admin", organization="ogn_2")}, {"ogn_1": access("org:member")}):
        with pytest.raises(ChangeRejectedError) as caught:
            await make(db).get(PERSON, accesses, operation.id)
        assert caught.value.status == 404


async def test_one_that_needs_attention_can_be_tried_again_and_others_not(db: Database) -> None:
    operation = put(db)
    with pytest.raises(ChangeRejectedError, match="needs attention"):
        await make(db).retry(operation)
    db.write_sync(repository.finish_operation, operation, "attention", now=3, reason="Refused halfway.", code="no")
    again = await make(db).retry(operation)
    assert (again.state, again.due_at) == ("open", 9_000)


async def test_giving_up_is_noted_and_happens_once(db: Database) -> None:
    operation, notes = put(db), list[str]()
    assert (await make(db, notes).give_up(operation)).state == "given_up"
    with pytest.raises(ChangeRejectedError, match="already ended"):
        await make(db, notes).give_up(operation)
    assert notes == ["given_up"]


async def test_operations_are_listed_newest_first_page_by_page(db: Database) -> None:
    made = [put(db, target=f"membership:{n}").id for n in range(5)]
    first = await make(db).list("ogn_1", limit=2)
    rest = await make(db).list("ogn_1", before=first[-1].id, limit=10)
    assert [it.id for it in (*first, *rest)] == made[::-1]
    assert await make(db).list("ogn_2") == []
    assert await make(db).list(None, states=("refused",)) == []


def entry(**changes: Any) -> NewAuditEntry:
    fields = {"actor": "usr_1", "action": "member.role", "target": "membership:1", "organization_id": "ogn_1"}
    return NewAuditEntry(**(fields | changes))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (AuditFilter(), 3),
        (AuditFilter(organization_id="ogn_1"), 2),
        (AuditFilter(person="usr_2"), 2),
        (AuditFilter(action="member"), 2),
        (AuditFilter(action="member.role"), 1),
        (AuditFilter(since=150), 1),
        (AuditFilter(until=150), 2),
        (AuditFilter(query="remove"), 1),
        (AuditFilter(query="100%"), 0),
    ],
)
async def test_the_audit_is_filtered(db: Database, wanted: AuditFilter, found: int) -> None:
    old = [entry(), entry(actor="usr_2", action="member.remove", organization_id="ogn_2")]
    await db.write(record_entries, old, now=100)
    await db.write(record_entries, [entry(actor="clerk", action="user.gone", target="usr_2")], now=200)
    assert len(await AuditService(db).list(wanted)) == found


async def test_an_export_has_every_entry_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instep.audit.service.EXPORT_PAGE_SIZE", 3)
    await db.write(record_entries, [entry(target=f"membership:{n}") for n in range(10)], now=100)
    exported = [it.target async for it in AuditService(db).export(AuditFilter())]
    assert sorted(exported) == sorted(f"membership:{n}" for n in range(10))


async def test_an_operation_that_nobody_closed_is_found(db: Database) -> None:
    opened = [entry(outcome="asked", cause=f"op_{n}") for n in range(2)]
    await db.write(record_entries, [*opened, entry(outcome="done", cause="op_1")], now=100)
    assert [it.cause for it in await db.read(list_entries, AuditFilter(is_unclosed=True, until=200))] == ["op_0"]
    assert await db.read(list_entries, AuditFilter(is_unclosed=True, until=100)) == []


async def test_a_wrong_state_of_the_world_is_a_sentence(db: Database) -> None:
    with pytest.raises(PermanentError, match="no such operation"):
        await make(db).get(BREAK_GLASS_PRINCIPAL, {}, "op_nothing")
