"""Backend API: invitations to organizations."""

from collections.abc import Callable, Iterable
from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import organization_invitations, organizations, users
from clerk_emulator.state.models import Organization, OrganizationInvitation
from clerk_emulator.wire import organization_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted

STATUSES = ("pending", "accepted", "revoked", "expired")
TEXT = validation.nullable(validation.text)
MAPPING = validation.nullable(validation.mapping)
CREATE = validation.BodySchema(
    {
        "email_address": validation.text,
        "inviter_user_id": TEXT,
        "role": validation.text,
        "public_metadata": MAPPING,
        "private_metadata": MAPPING,
        "redirect_url": validation.nullable(validation.address),
        "expires_in_days": validation.nullable(validation.integer(1, 365)),
        "notify": validation.nullable(validation.flag),
    },
    required=("email_address", "role"),
    strict=False,
)
REVOKE = validation.BodySchema({"requesting_user_id": TEXT}, strict=False)
InvitationSerializer = Callable[[Any, OrganizationInvitation, str], Any]


def create(call: BackendCall) -> Any:
    """Create an organization invitation."""
    organization = _get_organization(call)
    created = organization_invitations.create(call.instance, organization, CREATE.read(call.body))
    return _to_json(call, created)


def create_bulk(call: BackendCall) -> Any:
    """Create up to ten organization invitations, all of them or none."""
    organization = _get_organization(call)
    drafts = CREATE.read_list(call.body, organization_invitations.MAX_BATCH_SIZE)
    created = organization_invitations.create_all(call.instance, organization, drafts)
    return {"data": [_to_json(call, row) for row in created], "total_count": len(created)}


def list_of_organization(call: BackendCall) -> Any:
    """List the invitations of an organization."""
    address = (call.query.text("email_address") or "").strip().lower()
    rows = _list_filtered(call, _get_organization(call))
    found = (row for row in rows if not address or row.email_address == address)
    return _page_response(call, found, organization_json.organization_invitation)


def list_pending(call: BackendCall) -> Any:
    """List the pending invitations of an organization."""
    rows = _list_filtered(call, _get_organization(call))
    pending = [row for row in rows if row.status(call.instance.now) == "pending"]
    page = [_to_json(call, row) for row in call.query.page(pending)]
    return {"data": page, "total_count": len(pending)}


def list_of_instance(call: BackendCall) -> Any:
    """List the invitations of all organizations."""
    text = (call.query.text("query") or "").strip().lower()
    rows = call.instance.organization_invitations.newest_first()
    found = (row for row in rows if text in row.email_address and row.domain_id is None)
    return _page_response(call, found, organization_json.with_public_organization)


def list_of_user(call: BackendCall) -> Any:
    """List the organization invitations to the addresses of a user."""
    user = users.get(call.instance, call.params["user_id"])
    mine = {email.email_address for email in user.email_addresses if email.is_claimed}
    rows = call.instance.organization_invitations.newest_first()
    found = (row for row in rows if row.email_address in mine)
    return _page_response(call, found, organization_json.with_public_organization)


def get(call: BackendCall) -> Any:
    """Return an organization invitation."""
    found = organization_invitations.get(call.instance, _get_organization(call), call.params["invitation_id"])
    return _to_json(call, found)


def revoke(call: BackendCall) -> Any:
    """Revoke a pending invitation."""
    organization = _get_organization(call)
    found = organization_invitations.get(call.instance, organization, call.params["invitation_id"])
    by = REVOKE.read(call.body).get("requesting_user_id")
    return _to_json(call, organization_invitations.revoke(call.instance, organization, found, by))


def _get_organization(call: BackendCall) -> Organization:
    return organizations.get(call.instance, call.params["organization_id"])


def _to_json(call: BackendCall, found: OrganizationInvitation) -> Any:
    return organization_json.organization_invitation(call.instance, found, call.site.url)


def _list_filtered(call: BackendCall, organization: Organization) -> Iterable[OrganizationInvitation]:
    ids = call.instance.invitations_of_organization.of(organization.id).ids()
    rows = map(call.instance.organization_invitations.find, ids)
    return (row for row in rows if row is not None and row.domain_id is None)


def _page_response(call: BackendCall, rows: Iterable[OrganizationInvitation], serialize: InvitationSerializer) -> Any:
    name, descending = call.query.order(("created_at", "email_address"))
    statuses, now = call.query.choices("status", STATUSES), call.instance.now
    found = [row for row in rows if not statuses or row.status(now) in statuses]
    if name == "email_address":
        found = list(iter_sorted(found, lambda row: row.email_address, descending=descending))
    elif not descending:
        found.reverse()
    page = [serialize(call.instance, row, call.site.url) for row in call.query.page(found)]
    return {"data": page, "total_count": len(found)}


HANDLERS: dict[str, BackendHandler] = {
    "CreateOrganizationInvitation": create,
    "CreateOrganizationInvitationBulk": create_bulk,
    "ListOrganizationInvitations": list_of_organization,
    "ListPendingOrganizationInvitations": list_pending,
    "ListInstanceOrganizationInvitations": list_of_instance,
    "UsersGetOrganizationInvitations": list_of_user,
    "GetOrganizationInvitation": get,
    "RevokeOrganizationInvitation": revoke,
}
