"""Everything that can be done with the invitations of organizations, put together."""

from collections.abc import Callable
from dataclasses import dataclass

from instep.identity.ports import Actor, Directory
from instep.invitations import bulk, resending, revoking, sending
from instep.invitations.flows import Invite, Resend, Revoke
from instep.invitations.links import CopyLink
from instep.invitations.many import InviteMany
from instep.invitations.tracing import Timeline
from instep.journal.model import Operation, Procedures
from instep.journal.run import Runner
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db


@dataclass(frozen=True)
class Desk:
    """The flows of this slice."""

    invite: Invite
    invite_many: InviteMany
    resend: Resend
    revoke: Revoke
    copy_link: CopyLink
    timeline: Timeline


def make_desk(
    db: Db, runner: Runner, *, actor: Actor, directory: Directory, redirect_url: str | None, clock: Clock
) -> Desk:
    """The flows with what they need."""
    return Desk(
        invite=Invite(db, runner, directory, redirect_url, clock),
        invite_many=InviteMany(db, runner, directory, redirect_url, clock),
        resend=Resend(db, runner, actor, directory, redirect_url, clock),
        revoke=Revoke(db, runner, actor, directory, clock),
        copy_link=CopyLink(db, actor, clock),
        timeline=Timeline(db, actor, directory, clock),
    )


def procedures(actor: Actor, directory: Directory, noted: Callable[[Conn, Operation], None]) -> Procedures:
    """How each kind of operation of this slice is carried out."""
    return {
        sending.KIND: sending.procedure(actor, directory),
        resending.KIND: resending.procedure(actor, directory),
        revoking.KIND: revoking.procedure(actor),
        **bulk.procedures(actor, directory, noted),
    }
