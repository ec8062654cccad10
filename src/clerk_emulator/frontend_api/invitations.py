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


def create(visit: FrontendCall) -> Any:
    """Invite one address."""
    organization = authorize_organization(visit, roles.MANAGE_MEMBERS)
    draft = _invitation_draft(visit, require_field(visit.fields, "email_address"))
    return frontend_json.invitation(
        visit.instance, organization_invitations.create(visit.instance, organization, draft)
    )


def create_bulk(visit: FrontendCall) -> Any:
    """Invite several addresses in one role, all or none; the answer is a bare list."""
    organization = authorize_organization(visit, roles.MANAGE_MEMBERS)
    require_field(visit.fields, "email_address")
    addresses = visit.fields.texts("email_address") or []
    if len(addresses) > organization_invitations.MAX_BATCH_SIZE:
        raise invalid_value_error("email_address", f"may have {organization_invitations.MAX_BATCH_SIZE} values at most")
    drafts = [_invitation_draft(visit, address) for address in addresses]
    made = organization_invitations.create_all(visit.instance, organization, drafts)
    return [frontend_json.invitation(visit.instance, row) for row in made]


def list_invitations(visit: FrontendCall) -> Any:
    """Answer a page of the invitations, newest first."""
    organization = authorize_organization(visit, roles.MANAGE_MEMBERS)
    statuses, now = visit.query.choices("status", STATUSES), visit.instance.now
    return _invitation_page(
        visit, [row for row in _list_created(visit, organization) if not statuses or row.status(now) in statuses]
    )


def list_pending(visit: FrontendCall) -> Any:
    """Answer a page of the pending invitations."""
    organization = authorize_organization_list(visit, roles.MANAGE_MEMBERS)
    now = visit.instance.now
    return _invitation_page(visit, [row for row in _list_created(visit, organization) if row.status(now) == "pending"])


def revoke(visit: FrontendCall) -> Any:
    """Take a pending invitation back."""
    organization = authorize_organization(visit, roles.MANAGE_MEMBERS)
    found = organization_invitations.get(visit.instance, organization, visit.params["invitation_id"])
    return frontend_json.invitation(
        visit.instance, organization_invitations.revoke(visit.instance, organization, found, visit.user.id)
    )


def _invitation_draft(visit: FrontendCall, address: str) -> dict[str, Any]:
    return {
        "email_address": address,
        "role": require_field(visit.fields, "role"),
        "notify": visit.fields.flag("notify"),
        "inviter_user_id": visit.user.id,
    }


def _list_created(visit: FrontendCall, organization: Organization) -> list[OrganizationInvitation]:
    """Return the invitations that somebody made, newest first; what a domain makes is not listed."""
    ids = visit.instance.invitations_of_organization.of(organization.id).ids()
    rows = map(visit.instance.organization_invitations.find, ids)
    return [row for row in rows if row is not None and row.domain_id is None]


def _invitation_page(visit: FrontendCall, found: list[OrganizationInvitation]) -> Any:
    data = [frontend_json.invitation(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


ROUTES = (
    FrontendRoute("POST", PATH, "createOrganizationInvitations", create),
    FrontendRoute("GET", PATH, "getOrganizationInvitations", list_invitations),
    FrontendRoute("POST", f"{PATH}/bulk", "bulkCreateOrganizationInvitations", create_bulk),
    FrontendRoute("GET", f"{PATH}/pending", "getAllPendingOrganizationInvitations", list_pending),
    FrontendRoute("POST", f"{PATH}/{{invitation_id}}/revoke", "revokePendingOrganizationInvitation", revoke),
)
