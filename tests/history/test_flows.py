"""Whoever may see what happened sees it, tries again what failed, and ends what can't be finished."""

from typing import Any

import pytest

from instep.access.principal import BREAK_GLASS, Access, Principal
from instep.audit.store import Entry, Filter, list_unclosed, record
from instep.history.flows import Audit, Operations, scope_of
from instep.identity.refusals import Refused
from instep.journal import store
from instep.journal.model import Asked, Operation
from instep.kit.clock import Millis
from instep.kit.db import Conn, Db
from instep.kit.errors import PermanentError

pytestmark = pytest.mark.anyio

PERSON = Principal(kind="person", name="Maya", user_id="usr_1", clerk_user_id="user_1")


def access(role: str | None, principal: Principal = PERSON, organization: str = "ogn_1") -> Access:
    return Access(
        principal=principal,
        organization_id=organization,
        organization_clerk_id="org_1",
        organization_name="Firm",
        organization_slug="firm",
        role=role,
    )


def make(db: Db, notes: list[str] | None = None) -> Operations:
    def noted(_conn: Conn, operation: Operation) -> None:
        (notes if notes is not None else []).append(operation.state)

    return Operations(db=db, noted=noted, clock=lambda: Millis(9_000))


def put(db: Db, **changes: Any) -> Operation:
    fields = {"kind": "member.role", "target": "membership:1", "actor": "usr_1", "intent": {}}
    asked = Asked(**(fields | {"organization_id": "ogn_1"} | changes))  # type: ignore[arg-type]
    operation = db.writing(store.open_, asked, now=1, until=2)
    assert operation is not None
    return operation


def test_an_admin_reads_their_organization_and_an_instance_admin_everything() -> None:
    assert scope_of(PERSON, access("org:admin")) == "ogn_1"
    assert scope_of(BREAK_GLASS, None) is None
    for asker, where in ((PERSON, access("org:member")), (PERSON, None)):
        with pytest.raises(Refused, match="Only admins"):
            scope_of(asker, where)


async def test_an_operation_of_another_organization_does_not_exist(db: Db) -> None:
    operation = put(db)
    theirs = {"ogn_1": access("org:admin")}
    assert (await make(db).find(PERSON, theirs, operation.id)).id == operation.id
    for accesses in ({}, {"ogn_2": access("org:admin", organization="ogn_2")}, {"ogn_1": access("org:member")}):
        with pytest.raises(Refused) as caught:
            await make(db).find(PERSON, accesses, operation.id)
        assert caught.value.status == 404


async def test_one_that_needs_attention_can_be_tried_again_and_others_not(db: Db) -> None:
    operation = put(db)
    with pytest.raises(Refused, match="needs attention"):
        await make(db).retry(operation)
    db.writing(store.end, operation, "attention", now=3, reason="Refused halfway.", code="no")
    again = await make(db).retry(operation)
    assert (again.state, again.due_at) == ("open", 9_000)


async def test_giving_up_is_noted_and_happens_once(db: Db) -> None:
    operation, notes = put(db), list[str]()
    assert (await make(db, notes).give_up(operation)).state == "given_up"
    with pytest.raises(Refused, match="ended already"):
        await make(db, notes).give_up(operation)
    assert notes == ["given_up"]


async def test_operations_are_listed_newest_first_page_by_page(db: Db) -> None:
    made = [put(db, target=f"membership:{n}").id for n in range(5)]
    first = await make(db).list("ogn_1", limit=2)
    rest = await make(db).list("ogn_1", before=first[-1].id, limit=10)
    assert [it.id for it in (*first, *rest)] == made[::-1]
    assert await make(db).list("ogn_2") == []
    assert await make(db).list(None, states=("refused",)) == []


def entry(**changes: Any) -> Entry:
    fields = {"actor": "usr_1", "action": "member.role", "target": "membership:1", "organization_id": "ogn_1"}
    return Entry(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), 3),
        (Filter(organization_id="ogn_1"), 2),
        (Filter(person="usr_2"), 2),
        (Filter(action="member"), 2),
        (Filter(action="member.role"), 1),
        (Filter(since=150), 1),
        (Filter(until=150), 2),
        (Filter(words="remove"), 1),
        (Filter(words="100%"), 0),
    ],
)
async def test_the_audit_is_filtered(db: Db, wanted: Filter, found: int) -> None:
    old = [entry(), entry(actor="usr_2", action="member.remove", organization_id="ogn_2")]
    await db.write(record, old, now=100)
    await db.write(record, [entry(actor="clerk", action="user.gone", target="usr_2")], now=200)
    assert len(await Audit(db).list(wanted)) == found


async def test_an_export_has_every_entry_once(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instep.history.flows.PAGE", 3)
    await db.write(record, [entry(target=f"membership:{n}") for n in range(10)], now=100)
    exported = [it.target async for it in Audit(db).export(Filter())]
    assert sorted(exported) == sorted(f"membership:{n}" for n in range(10))


async def test_an_operation_that_nobody_closed_is_found(db: Db) -> None:
    opened = [entry(outcome="asked", cause=f"op_{n}") for n in range(2)]
    await db.write(record, [*opened, entry(outcome="done", cause="op_1")], now=100)
    assert [it.cause for it in await db.read(list_unclosed, before=200)] == ["op_0"]
    assert await db.read(list_unclosed, before=100) == []


async def test_a_wrong_state_of_the_world_is_a_sentence(db: Db) -> None:
    with pytest.raises(PermanentError, match="no such operation"):
        await make(db).find(BREAK_GLASS, {}, "op_nothing")
