"""CLI commands of invitations: invite, preview, resend and revoke."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from instep.app.cli_runtime import JsonOption, OrganizationArgument, get_admin_access, run_with_services
from instep.app.container import Services
from instep.auth.principal import OrganizationAccess
from instep.core.clock import to_iso
from instep.core.errors import PermanentError
from instep.domain.models import ClerkId, ClerkInvitation
from instep.domain.roles import RoleCatalog
from instep.invitations.bulk_service import parse_invitees
from instep.invitations.models import (
    DEFAULT_EXPIRY_DAYS,
    MAX_EXPIRY_DAYS,
    InvitationBatchPreview,
    InvitationBatchProgress,
    InviteeInput,
)
from instep.invitations.policies import validate_role

app = typer.Typer()
InvitationArgument = Annotated[
    str, typer.Argument(metavar="INVITATION", help="Clerk's id of the invitation, or its email address.")
]
EMAILS_HELP = "Email addresses; @FILE for a list or a CSV with the columns email, role, name; - for standard input."
EmailsArgument = Annotated[list[str], typer.Argument(metavar="EMAIL...", help=EMAILS_HELP)]
ROLE_HELP = "Role, such as org:admin, for people without one in the CSV. Defaults to the default role of the instance."
RoleOption = Annotated[str | None, typer.Option(help=ROLE_HELP)]
NoMailOption = Annotated[bool, typer.Option("--no-mail", help="Only create the link, send no email.")]


@app.command()
def invite(
    organization: OrganizationArgument,
    people: EmailsArgument,
    role: RoleOption = None,
    days: Annotated[
        int, typer.Option(min=1, max=MAX_EXPIRY_DAYS, help="Days until the invitation expires.")
    ] = DEFAULT_EXPIRY_DAYS,
    no_mail: NoMailOption = False,
    as_json: JsonOption = False,
) -> None:
    """Invite one person or a list of people. The server's worker sends what cannot be sent now."""
    texts = _collect_texts(people)
    options: Any = {"expires_in_days": days, "notify": not no_mail}

    async def run(services: Services) -> ClerkInvitation | InvitationBatchProgress:
        access = await get_admin_access(services, organization)
        invitees = _parse_invitees(texts, role, access.roles)
        if len(invitees) > 1:
            return await _send_batch(services, access, invitees, options)
        (invitee,) = invitees
        return await services.invitations.invite(
            access, email=invitee.email, role=invitee.role, name=invitee.name, **options
        )

    sent = run_with_services(run)
    return _print_invitation(sent, as_json) if isinstance(sent, ClerkInvitation) else _print_batch(sent, as_json)


@app.command("preview-invitations")
def preview_invitations(
    organization: OrganizationArgument, people: EmailsArgument, role: RoleOption = None, as_json: JsonOption = False
) -> None:
    """Preview the result of `invite` for each person; send nothing."""
    texts = _collect_texts(people)

    async def run(services: Services) -> InvitationBatchPreview:
        access = await get_admin_access(services, organization)
        return await services.bulk_invitations.preview(access, _parse_invitees(texts, role, access.roles))

    _print_preview(run_with_services(run), as_json)


@app.command()
def resend(
    organization: OrganizationArgument,
    invitation: InvitationArgument,
    no_mail: NoMailOption = False,
    as_json: JsonOption = False,
) -> None:
    """Resend an invitation; the old link stops working."""

    async def run(services: Services) -> ClerkInvitation:
        access = await get_admin_access(services, organization)
        invitation_id = await _find_invitation_id(services, access.organization_clerk_id, invitation)
        return await services.invitations.resend(access, invitation_id, notify=not no_mail)

    _print_invitation(run_with_services(run), as_json)


@app.command()
def revoke(organization: OrganizationArgument, invitation: InvitationArgument, as_json: JsonOption = False) -> None:
    """Revoke an invitation; its link stops working."""

    async def run(services: Services) -> ClerkInvitation:
        access = await get_admin_access(services, organization)
        invitation_id = await _find_invitation_id(services, access.organization_clerk_id, invitation)
        return await services.invitations.revoke(access, invitation_id)

    _print_invitation(run_with_services(run), as_json)


def _collect_texts(people: list[str]) -> list[str]:
    """Return the addresses on the command line, and the contents of the files it names."""
    typed = " ".join(it for it in people if it != "-" and not it.startswith("@"))
    texts = [_read_file(it) for it in people if it == "-" or it.startswith("@")]
    return ([typed] if typed else []) + texts


def _parse_invitees(texts: list[str], role: str | None, roles: RoleCatalog) -> list[InviteeInput]:
    default_role = validate_role(roles, roles.find_key(role) if role else None)
    return [invitee for text in texts for invitee in parse_invitees(text, role=default_role, roles=roles)]


def _read_file(argument: str) -> str:
    if argument == "-":
        return sys.stdin.read()
    path = argument[1:]
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"Cannot read {path}: {error}", code="unreadable") from error


async def _find_invitation_id(services: Services, organization_id: str | None, argument: str) -> str:
    """Return the id of an invitation; for an address, that of its newest one."""
    if "@" not in argument or organization_id is None:
        return argument
    listed = await services.clerk.list_invitations(
        ClerkId(organization_id), statuses=("pending", "expired"), email=argument.strip()
    )
    if not listed:
        raise PermanentError(f"{argument} has no pending or expired invitation.", code="not_invited")
    return listed[0].clerk_id


async def _send_batch(
    services: Services, access: OrganizationAccess, invitees: list[InviteeInput], options: Any
) -> InvitationBatchProgress:
    """Create the batch, and send what is due now."""
    batch = await services.bulk_invitations.send(access, invitees, **options)
    await services.executor.resume_due()
    return await services.bulk_invitations.get_batch(access, batch.id)


def _print_invitation(invitation: ClerkInvitation, is_json: bool) -> None:
    fields = {
        "id": invitation.clerk_id,
        "email": invitation.email,
        "role": invitation.role,
        "status": invitation.status,
        "created_at": to_iso(invitation.created_at),
        "expires_at": to_iso(invitation.expires_at),
    }
    if is_json:
        return _print_json(fields)
    return typer.echo(f"{invitation.email}: {invitation.status}, {invitation.role}, expires at {fields['expires_at']}")


def _print_batch(batch: InvitationBatchProgress, is_json: bool) -> None:
    if is_json:
        return _print_json({"state": "done" if batch.is_done else "queued"} | msgspec.to_builtins(batch))
    table = Table("Email", "Role", "Status", "Reason", title=f"{batch.sent} sent, {batch.total - batch.done} queued")
    for row in batch.rows:
        table.add_row(row.email, row.role, row.status, row.reason or "")
    Console().print(table)
    return None if batch.is_done else typer.echo(f"The server's worker sends the rest. See GET /v1/batches/{batch.id}")


def _print_preview(preview: InvitationBatchPreview, is_json: bool) -> None:
    if is_json:
        return _print_json(preview)
    table = Table("Email", "Role", "Result", "Note", title=f"{preview.sent} of {len(preview.lines)} would be invited")
    for line in preview.lines:
        table.add_row(line.email, line.role, line.verdict, line.note)
    Console().print(table)
    return typer.echo(preview.refusal, err=True) if preview.refusal else None


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value, enc_hook=str))
