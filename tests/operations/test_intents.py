"""Stored intents of earlier releases are decoded, resumed and written as they were; unreadable ones need a person."""

import json
from typing import Any, ClassVar, cast

import pytest
import sqlalchemy as sa

from instep.app.container import make_workflows
from instep.core.clock import now
from instep.core.db import Conn
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.mirror.tables import organizations, users
from instep.operations import repository
from instep.operations.repository import decode_intent, encode_intent
from instep.operations.workflow import (
    JsonObject,
    Operation,
    OperationIntent,
    OperationRequest,
    TypedOperation,
    UnreadableIntentError,
    Workflow,
)
from instep.users.workflows import EphemeralSecrets
from tests.members import firms
from tests.members.firms import BOB, DAN, furnish, in_clerk, member, recover, status_and_role
from tests.support.world import Firm

pytestmark = pytest.mark.anyio

WORKFLOWS = make_workflows(cast(Any, None), lambda _conn, _operation: None, now, EphemeralSecrets())
CHANGED_MEMBER = """
    "membership": "mbr_1", "clerk_membership": "orgmem_1", "organization": "org_1", "user": "user_1",
    "before": {"role": "org:member", "status": "active"}
"""
INVITEE = """
    "organization": "org_1", "email": "new@acme.example", "role": "org:member", "expires_in_days": 7, "notify": true,
    "inviter": null, "redirect_url": "https://app.example/welcome"
"""
BATCH_ROWS = """[
    {"n": 0, "email": "a@acme.example", "role": "org:member", "name": "A"},
    {"n": 1, "email": "bob@acme.example", "role": "org:member", "code": "member", "reason": "Is already a member."}
]"""
APPLICATION_INVITEE = """
    "email": "new@acme.example", "expires_in_days": 7, "notify": true, "redirect_url": null,
    "public_metadata": {"role": "org:admin", "organization": "lorg_1"}
"""
CHANGED_USER = '"user": "usr_1", "clerk_id": "user_1"'
REINVITED = '"email": "new@acme.example", "expires_in_days": 7, "redirect_url": null'

# Intents as releases without versions stored them, by kind: one for each set of fields that was written.
STORED = [
    ("member.role", f'{{{CHANGED_MEMBER}, "role": "org:admin", "rises_to_admin": "mbr_1"}}'),
    ("member.role", f'{{{CHANGED_MEMBER}, "leaves_admin": "mbr_1", "role": "org:member"}}'),
    ("member.deactivate", f'{{{CHANGED_MEMBER}, "leaves_admin": "mbr_1", "deactivation": "database"}}'),
    ("member.deactivate", f'{{{CHANGED_MEMBER}, "leaves_admin": "mbr_1", "deactivation": "membership"}}'),
    ("member.deactivate", f'{{{CHANGED_MEMBER}, "leaves_admin": "mbr_1", "deactivation": "ban"}}'),
    ("member.reactivate", f'{{{CHANGED_MEMBER}, "role": "org:member", "is_out": true, "has_ban": false}}'),
    ("member.remove", f'{{{CHANGED_MEMBER}, "leaves_admin": "mbr_1"}}'),
    (
        "member.remove",
        '{"membership": "mbr_1", "clerk_membership": null, "organization": null, "user": null,'
        ' "before": {"role": "org:member", "status": "active"}, "leaves_admin": "mbr_1"}',
    ),
    ("member.leave", f'{{{CHANGED_MEMBER}, "leaves_admin": "mbr_1"}}'),
    ("member.restore", f'{{{CHANGED_MEMBER}, "role": "org:member", "is_out": true, "has_ban": true}}'),
    (
        "member.transfer",
        f'{{{CHANGED_MEMBER}, "role": "org:admin", "own_role": "org:member", "rises_to_admin": "mbr_1",'
        ' "own_user": "user_2", "own_membership": "mbr_2", "leaves_admin": "mbr_2"}',
    ),
    ("invitation.send", f'{{{INVITEE}, "private_metadata": {{"name": "Maya"}}}}'),
    ("invitation.send", f'{{{INVITEE}, "private_metadata": {{}}}}'),
    (
        "invitation.resend",
        f'{{{INVITEE}, "invitation": "orginv_1", "by": "user_1", "status": "pending",'
        ' "public_metadata": {"plan": "pro"}, "private_metadata": {"name": "Maya"}}',
    ),
    (
        "invitation.revoke",
        '{"organization": "org_1", "invitation": "orginv_1", "by": null, "email": "new@acme.example"}',
    ),
    (
        "invitation.batch",
        f'{{"organization": "org_1", "rows": {BATCH_ROWS}, "expires_in_days": 3, "notify": false, "inviter": "user_1",'
        ' "redirect_url": null}',
    ),
    (
        "invitation.bulk",
        f'{{"organization": "org_1", "rows": {BATCH_ROWS}, "expires_in_days": 3, "notify": false, "inviter": "user_1",'
        ' "redirect_url": null, "batch": "op_1", "start_at": 1700000000000}',
    ),
    ("application.invite", f"{{{APPLICATION_INVITEE}}}"),
    ("application.resend", f'{{{APPLICATION_INVITEE}, "invitation": "inv_1"}}'),
    ("application.revoke", '{"invitation": "inv_1"}'),
    (
        "profile.edit",
        f'{{{CHANGED_USER}, "profile": {{"first_name": "Rob", "public_metadata": {{"n": null}}, "attributes": {{}}}},'
        ' "before": {"first_name": null, "public_metadata": {"n": 1}, "attributes": {"a": [1]}}}',
    ),
    ("user.password", f'{{{CHANGED_USER}, "secret": "0123456789abcdef"}}'),
    ("user.sessions", f'{{{CHANGED_USER}, "session": "sess_1"}}'),
    ("user.sessions", f'{{{CHANGED_USER}, "session": null}}'),
    (
        "user.create",
        '{"user": "usr_1", "clerk_id": null, "in_clerk": true,'
        ' "profile": {"email": "new@acme.example", "attributes": {"n": 1}}}',
    ),
    ("user.delete", f'{{{CHANGED_USER}, "clerk": "keep", "leaves_everywhere": "usr_1"}}'),
    ("user.restore", '{"user": "usr_1", "clerk_id": null}'),
    ("user.ban", f'{{{CHANGED_USER}, "leaves_everywhere": "usr_1"}}'),
    ("user.ban", f"{{{CHANGED_USER}}}"),
    ("user.unban", f"{{{CHANGED_USER}}}"),
    ("profile.email", f'{{{CHANGED_USER}, "email": "new@acme.example", "old": null}}'),
    ("profile.email.code", f'{{{CHANGED_USER}, "email": "new@acme.example"}}'),
    (
        "profile.email.verify",
        f'{{{CHANGED_USER}, "email": "new@acme.example", "old": "old@acme.example", "address": "idn_1",'
        ' "verification": "ver_1", "secret": "0123456789abcdef"}',
    ),
    (
        "profile.reinvite",
        f'{{{CHANGED_USER}, {REINVITED}, "membership": "mbr_1", "leaves_admin": "mbr_1", "organization": "org_1",'
        ' "role": "org:member", "inviter": null}',
    ),
    ("profile.reinvite.application", f"{{{CHANGED_USER}, {REINVITED}}}"),
]


class SwitchIntent(OperationIntent, frozen=True, kw_only=True):
    """The second version of an intent; in the first, `lamps` was a single `lamp`."""

    version: ClassVar[int] = 2
    lamps: list[str]


def make_switch_workflow() -> Workflow[SwitchIntent]:
    return Workflow(
        SwitchIntent, [], _finalize_nothing, upgrades={1: lambda stored: SwitchIntent(lamps=[stored["lamp"]])}
    )


def _finalize_nothing(_conn: Conn, _operation: TypedOperation[Any]) -> None: ...


@pytest.mark.parametrize(
    ("kind", "stored"), STORED, ids=[f"{number}-{kind}" for number, (kind, _) in enumerate(STORED)]
)
def test_a_stored_intent_is_decoded_and_encoded_as_it_was(kind: str, stored: str) -> None:
    """Both directions: an older process can run what is written now."""
    intent = decode_intent(WORKFLOWS[kind], json.loads(stored))
    assert encode_intent(intent) == json.loads(stored)


def test_each_kind_has_a_stored_intent_and_a_struct_of_its_own() -> None:
    assert {kind for kind, _ in STORED} == set(WORKFLOWS)
    assert len({workflow.intent_type for workflow in WORKFLOWS.values()}) == len(WORKFLOWS)


def test_unknown_fields_are_ignored() -> None:
    intent = decode_intent(WORKFLOWS["application.revoke"], {"invitation": "inv_1", "colour": "red"})
    assert encode_intent(intent) == {"invitation": "inv_1"}


def test_an_earlier_version_is_upgraded() -> None:
    workflow = make_switch_workflow()
    assert decode_intent(workflow, {"lamp": "a"}) == SwitchIntent(lamps=["a"])
    encoded = encode_intent(SwitchIntent(lamps=["a", "b"]))
    assert encoded == {"version": 2, "lamps": ["a", "b"]}
    assert decode_intent(workflow, encoded) == SwitchIntent(lamps=["a", "b"])


@pytest.mark.parametrize(
    "stored", [{}, {"version": 2}, {"version": 2, "lamps": [1]}, {"version": 3, "lamps": []}, {"version": []}, [], None]
)
def test_an_intent_that_cannot_be_decoded_is_one_kind_of_error(stored: Any) -> None:
    with pytest.raises(UnreadableIntentError) as caught:
        decode_intent(make_switch_workflow(), stored)
    assert caught.value.code == "intent_unreadable"


async def store(firm: Firm, kind: str, intent: Any, target: str = "") -> str:
    """Store an operation as a process does that dies at once; return its id."""

    def insert(conn: Conn) -> Operation | None:
        organization_id = conn.execute(sa.select(organizations.c.id).where(organizations.c.slug == "acme")).scalar()
        request = OperationRequest(
            kind=kind, target=target or f"test:{kind}", actor="usr_1", intent=intent, organization_id=organization_id
        )
        at = firm.services.clock()
        return repository.insert_operation(conn, request, now=at, until=at)

    inserted = await firm.services.db.write(insert)
    assert inserted is not None
    return inserted.id


async def find(firm: Firm, operation_id: str) -> Operation:
    found = await firm.services.db.read(repository.find_operation, operation_id)
    assert found is not None
    return found


async def make_member_intent(firm: Firm, email: str, **fields: Any) -> JsonObject:
    """Return what an earlier release stored for a change to a member of Acme."""
    found = await member(firm, email)
    return {
        "membership": found.id,
        "clerk_membership": found.clerk_id,
        "organization": firm.organization_id("acme"),
        "user": found.clerk_user_id,
        "before": {"role": found.role, "status": found.status},
        **fields,
    }


async def test_a_stored_change_of_role_is_resumed_to_its_end(firm: Firm) -> None:
    await furnish(firm)
    found = await member(firm, BOB)
    intent = await make_member_intent(firm, BOB, role=ADMIN_ROLE, rises_to_admin=found.id)
    operation_id = await store(firm, "member.role", intent)
    await recover(firm, times=1)
    operation = await find(firm, operation_id)
    assert (operation.state, operation.intent) == ("settled", intent)
    assert await status_and_role(firm, BOB) == ("active", ADMIN_ROLE)
    assert in_clerk(firm, BOB) == ADMIN_ROLE


async def test_a_stored_transfer_is_resumed_after_its_first_step(firm: Firm) -> None:
    await furnish(firm)
    bob, dan = await member(firm, BOB), await member(firm, DAN)
    own = {"own_user": dan.clerk_user_id, "own_membership": dan.id, "own_role": MEMBER_ROLE, "leaves_admin": dan.id}
    intent = await make_member_intent(firm, BOB, role=ADMIN_ROLE, rises_to_admin=bob.id, **own)
    operation_id = await store(firm, "member.transfer", intent)
    await recover(firm, times=1)
    assert (await find(firm, operation_id)).state == "settled"
    assert [await status_and_role(firm, it) for it in (BOB, DAN)] == [("active", ADMIN_ROLE), ("active", MEMBER_ROLE)]


async def test_a_stored_batch_is_resumed_to_its_end(firm: Firm) -> None:
    """The parts that it inserts are stored as earlier releases stored them."""
    await furnish(firm)
    rows = [
        {"n": 0, "email": "a@acme.example", "role": MEMBER_ROLE, "name": "A"},
        {"n": 1, "email": BOB, "role": MEMBER_ROLE, "code": "member", "reason": "Is already a member."},
        {"n": 2, "email": "b@acme.example", "role": ADMIN_ROLE},
    ]
    shared = {"organization": firm.organization_id("acme"), "expires_in_days": 3, "notify": True, "inviter": None}
    intent = {**shared, "redirect_url": None, "rows": rows}
    operation_id = await store(firm, "invitation.batch", intent)
    await recover(firm)
    assert (await find(firm, operation_id)).state == "settled"
    (part,) = await firms.operations(firm, "invitation.bulk")
    assert part.state == "settled"
    start_at = part.intent["start_at"]
    assert part.intent == {**intent, "rows": [rows[0], rows[2]], "batch": operation_id, "start_at": start_at}
    sent = [it.email_address for it in firm.emulator.state.organization_invitations.oldest_first()]
    assert sent == ["a@acme.example", "b@acme.example"]


async def test_a_stored_edit_is_resumed_to_its_end(firm: Firm) -> None:
    await furnish(firm)
    query = sa.select(users.c.id, users.c.first_name, users.c.attributes).where(users.c.email == BOB)
    user_id = await firm.services.db.read(lambda conn: conn.execute(query).scalar_one())
    profile = {"first_name": "Rob", "public_metadata": {"n": 1}, "attributes": {"a": 2}}
    before = {"first_name": "Bob", "public_metadata": {}, "attributes": {}}
    intent = {"user": user_id, "clerk_id": firm.user_id(BOB), "profile": profile, "before": before}
    operation_id = await store(firm, "profile.edit", intent)
    await recover(firm, times=1)
    assert (await find(firm, operation_id)).state == "settled"
    row = await firm.services.db.read(lambda conn: conn.execute(query).one())
    assert tuple(row) == (user_id, "Rob", {"a": 2})
    user = firm.emulator.state.users.find(firm.user_id(BOB))
    assert user is not None
    assert (user.first_name, user.public_metadata) == ("Rob", {"n": 1})


async def test_what_cannot_be_decoded_needs_attention_and_the_worker_continues(firm: Firm) -> None:
    await furnish(firm)
    unreadable = [
        await store(firm, "member.role", {"membership": "mbr_1"}, "test:missing"),
        await store(firm, "member.role", {"version": 9}, "test:newer"),
        await store(firm, "member.role", ["no object"], "test:list"),
        await store(firm, "member.future", {}, "test:kind"),
    ]
    readable = await store(firm, "member.role", await make_member_intent(firm, BOB, role=ADMIN_ROLE))
    await recover(firm, times=1)
    found = [await find(firm, it) for it in unreadable]
    assert [(it.state, it.code) for it in found] == [("attention", "intent_unreadable")] * 4
    reasons = [it.reason or "" for it in found]
    assert [word in reason for word, reason in zip(("missing", "9", "read", "member.future"), reasons, strict=True)]
    assert all(reasons), reasons
    assert (await find(firm, readable)).state == "settled"


async def test_a_new_intent_that_cannot_be_decoded_is_never_stored(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    request = OperationRequest(kind="member.role", target="test:1", actor="usr_1", intent={"role": 1})
    with pytest.raises(UnreadableIntentError):
        await firm.services.executor.run(request)
    assert await firms.operations(firm) == []
