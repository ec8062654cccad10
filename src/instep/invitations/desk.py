"""Everything that can be done with invitations, put together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from instep.identity.ports import Actor, Admissions, Directory
from instep.invitations import bulk, resending, revoking
from instep.invitations import sending as invitations_sending
from instep.invitations.application import sending
from instep.invitations.application.flows import Applications
from instep.invitations.batch import PART
from instep.invitations.flows import Invite, Resend, Revoke
from instep.invitations.links import CopyLink
from instep.invitations.many import InviteMany
from instep.invitations.tracing import Timeline
from instep.journal.model import Operation, Procedures
from instep.journal.run import Runner
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db

SCHEDULED = (PART,)


"""Kinds of operations that wait for hours by plan: as many as Clerk takes in one."""


class Clerk(Actor, Directory, Admissions, Protocol):
    """What this slice needs of the provider."""


@dataclass(frozen=True)
class Desk:
    """The flows of this slice."""

    invite: Invite
    invite_many: InviteMany
    resend: Resend
    revoke: Revoke
    copy_link: CopyLink
    timeline: Timeline
    applications: Applications


def make_desk(
    db: Db,
    runner: Runner,
    clerk: Clerk,
    *,
    redirect_url: str | None,
    clock: Clock,
    admins: frozenset[str] = frozenset(),
) -> Desk:
    """The flows with what they need. `redirect_url` is where an accepted invitation leads; `admins`: see CopyLink."""
    return Desk(
        invite=Invite(db, runner, clerk, redirect_url, clock),
        invite_many=InviteMany(db, runner, clerk, redirect_url, clock),
        resend=Resend(db, runner, clerk, clerk, redirect_url, clock),
        revoke=Revoke(db, runner, clerk, clerk, clock),
        copy_link=CopyLink(db, clerk, clock, admins),
        timeline=Timeline(db, clerk, clerk, clock),
        applications=Applications(db, runner, clerk, redirect_url, clock),
    )


def procedures(clerk: Clerk, noted: Callable[[Conn, Operation], None]) -> Procedures:
    """How each kind of operation of this slice is carried out."""
    return {
        invitations_sending.KIND: invitations_sending.procedure(clerk, clerk),
        resending.KIND: resending.procedure(clerk, clerk),
        revoking.KIND: revoking.procedure(clerk),
        **bulk.procedures(clerk, clerk, noted),
        **sending.procedures(clerk),
    }
