"""Backend API: invitations to the application."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import invitations
from clerk_emulator.state.models import Invitation
from clerk_emulator.wire import organization_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted

STATUSES = ("pending", "accepted", "revoked", "expired")
MAX_BATCH_SIZE = 10
CREATE = validation.BodySchema(
    {
        "email_address": validation.text,
        "public_metadata": validation.nullable(validation.mapping),
        "redirect_url": validation.nullable(validation.address),
        "notify": validation.nullable(validation.flag),
        "ignore_existing": validation.nullable(validation.flag),
        "expires_in_days": validation.nullable(validation.integer(1, 365)),
        "template_slug": validation.choice("invitation", "waitlist_invitation"),
    },
    required=("email_address",),
)


def create(call: BackendCall) -> Any:
    """Create an invitation."""
    return _to_json(call, invitations.create_all(call.instance, [CREATE.read(call.body)])[0])


def create_bulk(call: BackendCall) -> Any:
    """Create up to ten invitations, all of them or none."""
    drafts = CREATE.read_list(call.body, MAX_BATCH_SIZE)
    return [_to_json(call, row) for row in invitations.create_all(call.instance, drafts)]


def list_invitations(call: BackendCall) -> Any:
    """List invitations; revoked ones only on request."""
    name, descending = call.query.order(("created_at", "email_address", "expires_at"))
    statuses = call.query.choices("status", STATUSES)
    text = (call.query.text("query") or "").strip().lower()
    found = [row for row in call.instance.invitations.newest_first() if _matches_filter(call, row, statuses, text)]
    if name != "created_at":
        found = list(iter_sorted(found, lambda row: getattr(row, name), descending=descending))
    elif not descending:
        found.reverse()
    return call.listing([_to_json(call, row) for row in call.query.page(found)], len(found))


def revoke(call: BackendCall) -> Any:
    """Revoke an invitation."""
    found = invitations.get(call.instance, call.params["invitation_id"])
    return _to_json(call, invitations.revoke(call.instance, found))


def _to_json(call: BackendCall, found: Invitation) -> Any:
    return organization_json.invitation(call.instance, found, call.site.url)


def _matches_filter(call: BackendCall, row: Invitation, statuses: list[str] | None, text: str) -> bool:
    status = row.status(call.instance.now)
    is_wanted = status in statuses if statuses else status != "revoked"
    return is_wanted and (text in row.email_address or text == row.id.lower())


HANDLERS: dict[str, BackendHandler] = {
    "CreateInvitation": create,
    "CreateBulkInvitations": create_bulk,
    "ListInvitations": list_invitations,
    "RevokeInvitation": revoke,
}
