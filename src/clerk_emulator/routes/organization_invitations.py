"""Invitations to organizations: create, list, get, revoke."""

from collections.abc import Callable, Iterable
from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import organization_invitations as invitations
from clerk_emulator.state import organizations, users
from clerk_emulator.state.model import Organization, OrganizationInvitation
from clerk_emulator.wire import forms
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire.queries import ordered

STATUSES = ("pending", "accepted", "revoked", "expired")
TEXT = forms.nullable(forms.text)
MAPPING = forms.nullable(forms.mapping)
CREATE = forms.Form(
    {
        "email_address": forms.text,
        "inviter_user_id": TEXT,
        "role": forms.text,
        "public_metadata": MAPPING,
        "private_metadata": MAPPING,
        "redirect_url": forms.nullable(forms.address),
        "expires_in_days": forms.nullable(forms.integer(1, 365)),
        "notify": forms.nullable(forms.flag),
    },
    required=("email_address", "role"),
    strict=False,
)
REVOKE = forms.Form({"requesting_user_id": TEXT}, strict=False)
Shape = Callable[[Any, OrganizationInvitation, str], Any]


def create(call: Call) -> Any:
    """Invite one address."""
    organization = _organization(call)
    made = invitations.create(call.instance, organization, CREATE.read(call.body))
    return _shape(call, made)


def create_bulk(call: Call) -> Any:
    """Invite up to ten addresses, all or none."""
    organization = _organization(call)
    drafts = CREATE.read_list(call.body, invitations.MOST_AT_ONCE)
    made = invitations.create_all(call.instance, organization, drafts)
    return {"data": [_shape(call, row) for row in made], "total_count": len(made)}


def list_of_organization(call: Call) -> Any:
    """Answer a page of the invitations of an organization."""
    address = (call.query.text("email_address") or "").strip().lower()
    rows = _of_organization(call, _organization(call))
    found = (row for row in rows if not address or row.email_address == address)
    return _answer(call, found, shapes.organization_invitation)


def list_pending(call: Call) -> Any:
    """Answer a page of the pending invitations of an organization."""
    rows = _of_organization(call, _organization(call))
    pending = [row for row in rows if row.status(call.instance.now) == "pending"]
    page = [_shape(call, row) for row in call.query.page(pending)]
    return {"data": page, "total_count": len(pending)}


def list_of_instance(call: Call) -> Any:
    """Answer a page of all invitations to organizations."""
    text = (call.query.text("query") or "").strip().lower()
    rows = call.instance.organization_invitations.newest_first()
    found = (row for row in rows if text in row.email_address and row.domain_id is None)
    return _answer(call, found, shapes.with_public_organization)


def list_of_user(call: Call) -> Any:
    """Answer a page of the invitations to the addresses of a user."""
    user = users.get(call.instance, call.params["user_id"])
    mine = {email.email_address for email in user.email_addresses if email.is_claimed}
    rows = call.instance.organization_invitations.newest_first()
    found = (row for row in rows if row.email_address in mine)
    return _answer(call, found, shapes.with_public_organization)


def get(call: Call) -> Any:
    """Answer one invitation."""
    found = invitations.get(call.instance, _organization(call), call.params["invitation_id"])
    return _shape(call, found)


def revoke(call: Call) -> Any:
    """Take a pending invitation back."""
    organization = _organization(call)
    found = invitations.get(call.instance, organization, call.params["invitation_id"])
    by = REVOKE.read(call.body).get("requesting_user_id")
    return _shape(call, invitations.revoke(call.instance, organization, found, by))


def _organization(call: Call) -> Organization:
    return organizations.get(call.instance, call.params["organization_id"])


def _shape(call: Call, found: OrganizationInvitation) -> Any:
    return shapes.organization_invitation(call.instance, found, call.site.url)


def _of_organization(call: Call, organization: Organization) -> Iterable[OrganizationInvitation]:
    ids = call.instance.invitations_of_organization.of(organization.id).ids()
    rows = map(call.instance.organization_invitations.find, ids)
    return (row for row in rows if row is not None and row.domain_id is None)


def _answer(call: Call, rows: Iterable[OrganizationInvitation], shape: Shape) -> Any:
    name, descending = call.query.order(("created_at", "email_address"))
    statuses, now = call.query.choices("status", STATUSES), call.instance.now
    found = [row for row in rows if not statuses or row.status(now) in statuses]
    if name == "email_address":
        found = list(ordered(found, lambda row: row.email_address, descending=descending))
    elif not descending:
        found.reverse()
    page = [shape(call.instance, row, call.site.url) for row in call.query.page(found)]
    return {"data": page, "total_count": len(found)}


HANDLERS: dict[str, Handler] = {
    "CreateOrganizationInvitation": create,
    "CreateOrganizationInvitationBulk": create_bulk,
    "ListOrganizationInvitations": list_of_organization,
    "ListPendingOrganizationInvitations": list_pending,
    "ListInstanceOrganizationInvitations": list_of_instance,
    "UsersGetOrganizationInvitations": list_of_user,
    "GetOrganizationInvitation": get,
    "RevokeOrganizationInvitation": revoke,
}
