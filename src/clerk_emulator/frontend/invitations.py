"""Invitations to an organization, made and taken back by its members."""

from typing import Any

from clerk_emulator.frontend.standing import require, require_for_list
from clerk_emulator.frontend.visit import Route, Visit
from clerk_emulator.frontend.visit import require as require_field
from clerk_emulator.state import organization_invitations as invitations
from clerk_emulator.state import roles
from clerk_emulator.state.model import Organization, OrganizationInvitation
from clerk_emulator.state.refusals import bad_value
from clerk_emulator.wire import front

PATH = "/organizations/{organization_id}/invitations"
STATUSES = ("pending", "accepted", "revoked", "expired", "invalid", "completed")


def create(visit: Visit) -> Any:
    """Invite one address."""
    organization = require(visit, roles.MANAGE_MEMBERS)
    draft = _draft(visit, require_field(visit.fields, "email_address"))
    return front.invitation(visit.instance, invitations.create(visit.instance, organization, draft))


def create_bulk(visit: Visit) -> Any:
    """Invite several addresses in one role, all or none; the answer is a bare list."""
    organization = require(visit, roles.MANAGE_MEMBERS)
    require_field(visit.fields, "email_address")
    addresses = visit.fields.texts("email_address") or []
    if len(addresses) > invitations.MOST_AT_ONCE:
        raise bad_value("email_address", f"may have {invitations.MOST_AT_ONCE} values at most")
    drafts = [_draft(visit, address) for address in addresses]
    made = invitations.create_all(visit.instance, organization, drafts)
    return [front.invitation(visit.instance, row) for row in made]


def list_invitations(visit: Visit) -> Any:
    """Answer a page of the invitations, newest first."""
    organization = require(visit, roles.MANAGE_MEMBERS)
    statuses, now = visit.query.choices("status", STATUSES), visit.instance.now
    return _page(visit, [row for row in _all(visit, organization) if not statuses or row.status(now) in statuses])


def list_pending(visit: Visit) -> Any:
    """Answer a page of the pending invitations."""
    organization = require_for_list(visit, roles.MANAGE_MEMBERS)
    now = visit.instance.now
    return _page(visit, [row for row in _all(visit, organization) if row.status(now) == "pending"])


def revoke(visit: Visit) -> Any:
    """Take a pending invitation back."""
    organization = require(visit, roles.MANAGE_MEMBERS)
    found = invitations.get(visit.instance, organization, visit.params["invitation_id"])
    return front.invitation(visit.instance, invitations.revoke(visit.instance, organization, found, visit.user.id))


def _draft(visit: Visit, address: str) -> dict[str, Any]:
    return {
        "email_address": address,
        "role": require_field(visit.fields, "role"),
        "notify": visit.fields.flag("notify"),
        "inviter_user_id": visit.user.id,
    }


def _all(visit: Visit, organization: Organization) -> list[OrganizationInvitation]:
    """Return the invitations that somebody made, newest first; what a domain makes is not listed."""
    ids = visit.instance.invitations_of_organization.of(organization.id).ids()
    rows = map(visit.instance.organization_invitations.find, ids)
    return [row for row in rows if row is not None and row.domain_id is None]


def _page(visit: Visit, found: list[OrganizationInvitation]) -> Any:
    data = [front.invitation(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


ROUTES = (
    Route("POST", PATH, "createOrganizationInvitations", create),
    Route("GET", PATH, "getOrganizationInvitations", list_invitations),
    Route("POST", f"{PATH}/bulk", "bulkCreateOrganizationInvitations", create_bulk),
    Route("GET", f"{PATH}/pending", "getAllPendingOrganizationInvitations", list_pending),
    Route("POST", f"{PATH}/{{invitation_id}}/revoke", "revokePendingOrganizationInvitation", revoke),
)
