"""Frontend API: organization invitations, created and revoked by members."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.frontend_api.organization_access import authorize_organization, authorize_organization_list
from clerk_emulator.state import organization_invitations, roles
from clerk_emulator.state.errors import invalid_value_error
from clerk_emulator.state.models import Organization, OrganizationInvitation
from clerk_emulator.wire import frontend_json

PATH = "/organizations/{organization_id}/invitations"
STATUSES = ("pending", "accepted", "revoked", "expired", "invalid", "completed")


def create(call: FrontendCall) -> Any:
    """Create an organization invitation."""
    organization = authorize_organization(call, roles.MANAGE_MEMBERS)
    draft = _invitation_draft(call, require_field(call.fields, "email_address"))
    return frontend_json.invitation(call.instance, organization_invitations.create(call.instance, organization, draft))


def create_bulk(call: FrontendCall) -> Any:
    """Create invitations with one role, all of them or none; the response is a bare list."""
    organization = authorize_organization(call, roles.MANAGE_MEMBERS)
    require_field(call.fields, "email_address")
    addresses = call.fields.texts("email_address") or []
    if len(addresses) > organization_invitations.MAX_BATCH_SIZE:
        raise invalid_value_error("email_address", f"may have {organization_invitations.MAX_BATCH_SIZE} values at most")
    drafts = [_invitation_draft(call, address) for address in addresses]
    created = organization_invitations.create_all(call.instance, organization, drafts)
    return [frontend_json.invitation(call.instance, row) for row in created]


def list_invitations(call: FrontendCall) -> Any:
    """List the invitations, newest first."""
    organization = authorize_organization(call, roles.MANAGE_MEMBERS)
    statuses, now = call.query.choices("status", STATUSES), call.instance.now
    return _invitation_page(
        call, [row for row in _list_created(call, organization) if not statuses or row.status(now) in statuses]
    )


def list_pending(call: FrontendCall) -> Any:
    """List the pending invitations."""
    organization = authorize_organization_list(call, roles.MANAGE_MEMBERS)
    now = call.instance.now
    return _invitation_page(call, [row for row in _list_created(call, organization) if row.status(now) == "pending"])


def revoke(call: FrontendCall) -> Any:
    """Revoke a pending invitation."""
    organization = authorize_organization(call, roles.MANAGE_MEMBERS)
    found = organization_invitations.get(call.instance, organization, call.params["invitation_id"])
    return frontend_json.invitation(
        call.instance, organization_invitations.revoke(call.instance, organization, found, call.user.id)
    )


def _invitation_draft(call: FrontendCall, address: str) -> dict[str, Any]:
    return {
        "email_address": address,
        "role": require_field(call.fields, "role"),
        "notify": call.fields.flag("notify"),
        "inviter_user_id": call.user.id,
    }


def _list_created(call: FrontendCall, organization: Organization) -> list[OrganizationInvitation]:
    """Return the invitations created by people, newest first; those of a domain are not listed."""
    ids = call.instance.invitations_of_organization.of(organization.id).ids()
    rows = map(call.instance.organization_invitations.find, ids)
    return [row for row in rows if row is not None and row.domain_id is None]


def _invitation_page(call: FrontendCall, found: list[OrganizationInvitation]) -> Any:
    data = [frontend_json.invitation(call.instance, row) for row in call.query.page(found)]
    return {"data": data, "total_count": len(found)}


ROUTES = (
    FrontendRoute("POST", PATH, "createOrganizationInvitations", create),
    FrontendRoute("GET", PATH, "getOrganizationInvitations", list_invitations),
    FrontendRoute("POST", f"{PATH}/bulk", "bulkCreateOrganizationInvitations", create_bulk),
    FrontendRoute("GET", f"{PATH}/pending", "getAllPendingOrganizationInvitations", list_pending),
    FrontendRoute("POST", f"{PATH}/{{invitation_id}}/revoke", "revokePendingOrganizationInvitation", revoke),
)
