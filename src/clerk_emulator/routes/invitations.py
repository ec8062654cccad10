"""Invitations to the application: create, list, revoke."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import invitations
from clerk_emulator.state.model import Invitation
from clerk_emulator.wire import forms
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire.queries import ordered

STATUSES = ("pending", "accepted", "revoked", "expired")
MOST_AT_ONCE = 10
CREATE = forms.Form(
    {
        "email_address": forms.text,
        "public_metadata": forms.nullable(forms.mapping),
        "redirect_url": forms.nullable(forms.address),
        "notify": forms.nullable(forms.flag),
        "ignore_existing": forms.nullable(forms.flag),
        "expires_in_days": forms.nullable(forms.integer(1, 365)),
        "template_slug": forms.choice("invitation", "waitlist_invitation"),
    },
    required=("email_address",),
)


def create(call: Call) -> Any:
    """Invite one address."""
    return _shape(call, invitations.create_all(call.instance, [CREATE.read(call.body)])[0])


def create_bulk(call: Call) -> Any:
    """Invite up to ten addresses, all or none."""
    drafts = CREATE.read_list(call.body, MOST_AT_ONCE)
    return [_shape(call, row) for row in invitations.create_all(call.instance, drafts)]


def list_invitations(call: Call) -> Any:
    """Answer a page of invitations; revoked ones only when asked for."""
    name, descending = call.query.order(("created_at", "email_address", "expires_at"))
    statuses = call.query.choices("status", STATUSES)
    text = (call.query.text("query") or "").strip().lower()
    found = [row for row in call.instance.invitations.newest_first() if _fits(call, row, statuses, text)]
    if name != "created_at":
        found = list(ordered(found, lambda row: getattr(row, name), descending=descending))
    elif not descending:
        found.reverse()
    return call.listing([_shape(call, row) for row in call.query.page(found)], len(found))


def revoke(call: Call) -> Any:
    """Take an invitation back."""
    found = invitations.get(call.instance, call.params["invitation_id"])
    return _shape(call, invitations.revoke(call.instance, found))


def _shape(call: Call, found: Invitation) -> Any:
    return shapes.invitation(call.instance, found, call.site.url)


def _fits(call: Call, row: Invitation, statuses: list[str] | None, text: str) -> bool:
    status = row.status(call.instance.now)
    is_wanted = status in statuses if statuses else status != "revoked"
    return is_wanted and (text in row.email_address or text == row.id.lower())


HANDLERS: dict[str, Handler] = {
    "CreateInvitation": create,
    "CreateBulkInvitations": create_bulk,
    "ListInvitations": list_invitations,
    "RevokeInvitation": revoke,
}
