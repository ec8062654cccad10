"""Answers to changes, as JSON: what became of one member, of many, and what would."""

from typing import Literal

from pydantic import BaseModel, TypeAdapter

from instep.people.bulk import BulkResult
from instep.people.changes import Changed
from instep.people.consequences import Consequences
from instep.people.shapes import Member, member_of


class ChangedMember(BaseModel):
    """The member as they are now. `notices` say what Clerk did not do of it; `is_open`: it is still being done.

    `operation` is null where there was nothing to change.
    """

    member: Member
    operation: str | None
    is_open: bool
    notices: list[str]


class BulkRow(BaseModel):
    """What became of one. `open`: not known yet, or still being done; `refused`: nothing was changed, see `message`."""

    user_id: str
    outcome: Literal["done", "unchanged", "open", "refused"]
    code: str | None
    message: str
    operation: str | None


class BulkAnswer(BaseModel):
    """What became of each, in the order in which they were named."""

    data: list[BulkRow]
    done: int
    refused: int


class WhatWillHappen(BaseModel):
    """What removing or deactivating someone will do; null while Clerk does not say.

    `sessions` all end; the `invitations` that they sent stay; `organizations` are the others they belong to, as far
    as you may see them. `no_removal` and `no_deactivation` say why it can't be done.
    """

    member: Member
    sessions: int | None
    invitations: list[str] | None
    organizations: list[str]
    no_removal: str | None
    no_deactivation: str | None


_dump_changed = TypeAdapter(ChangedMember).dump_json


def changed_as_json(changed: Changed) -> str:
    """A change as the API tells it."""
    return _dump_changed(changed_member(changed)).decode()


def changed_member(changed: Changed) -> ChangedMember:
    """A change."""
    return ChangedMember(
        member=member_of(changed.member),
        operation=changed.operation_id,
        is_open=changed.is_open,
        notices=list(changed.notices),
    )


def bulk_answer(result: BulkResult) -> BulkAnswer:
    """Many changes."""
    rows = [
        BulkRow(user_id=it.member, outcome=it.outcome, code=it.code, message=it.message, operation=it.operation_id)
        for it in result.rows
    ]
    return BulkAnswer(data=rows, done=result.count("done", "unchanged", "open"), refused=result.count("refused"))


def what_will_happen(it: Consequences) -> WhatWillHappen:
    """Consequences."""
    return WhatWillHappen(
        member=member_of(it.member),
        sessions=it.sessions,
        invitations=None if it.invitations is None else list(it.invitations),
        organizations=list(it.organizations),
        no_removal=it.no_removal,
        no_deactivation=it.no_deactivation,
    )
