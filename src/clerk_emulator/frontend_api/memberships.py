"""Frontend API: organization memberships and membership requests."""

from collections.abc import Iterator
from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.frontend_api.organization_access import authorize_organization, authorize_organization_list
from clerk_emulator.state import domain_enrollment, memberships, roles, search, users
from clerk_emulator.state.models import Membership, Organization
from clerk_emulator.wire import frontend_json

PATH = "/organizations/{organization_id}/memberships"
REQUESTS_PATH = "/organizations/{organization_id}/membership_requests"


def list_members(call: FrontendCall) -> Any:
    """List the members, filtered by role and by a part of name or address."""
    organization = authorize_organization_list(call, roles.MANAGE_MEMBERS, roles.READ_MEMBERS)
    found = list(_filtered_memberships(call, organization))
    data = [frontend_json.membership(call.instance, row) for row in call.query.page(found)]
    return {"data": data, "total_count": len(found)} if call.query.flag("paginated") else data


def create(call: FrontendCall) -> Any:
    """Add a user to an organization."""
    organization = authorize_organization(call, roles.MANAGE_MEMBERS)
    user = users.get(call.instance, require_field(call.fields, "user_id"))
    created = memberships.create(call.instance, organization, user, require_field(call.fields, "role"), {})
    return frontend_json.membership(call.instance, created)


def update(call: FrontendCall) -> Any:
    """Change the role of a member."""
    found = _get_membership(call, authorize_organization(call, roles.MANAGE_MEMBERS))
    changed = memberships.change_role(call.instance, found, require_field(call.fields, "role"))
    return frontend_json.membership(call.instance, changed)


def remove(call: FrontendCall) -> Any:
    """Remove a member; return the membership as it was."""
    found = _get_membership(call, authorize_organization(call, roles.MANAGE_MEMBERS))
    return frontend_json.membership(call.instance, memberships.delete(call.instance, found))


def list_requests(call: FrontendCall) -> Any:
    """List the membership requests, newest first."""
    organization = authorize_organization_list(call, roles.MANAGE_MEMBERS)
    results = [
        frontend_json.membership_request(call.instance, row)
        for row in domain_enrollment.list_requests(call.instance, organization)
    ]
    statuses = call.query.texts("status")
    found = [result for result in results if not statuses or result["status"] in statuses]
    return {"data": call.query.page(found), "total_count": len(found)}


def accept_request(call: FrontendCall) -> Any:
    """Accept a membership request."""
    return _decide_request(call, is_accepted=True)


def reject_request(call: FrontendCall) -> Any:
    """Reject a membership request."""
    return _decide_request(call, is_accepted=False)


def _decide_request(call: FrontendCall, *, is_accepted: bool) -> Any:
    organization, wanted = authorize_organization(call, roles.MANAGE_MEMBERS), call.params["request_id"]
    found = domain_enrollment.decide_request(call.instance, organization, wanted, is_accepted=is_accepted)
    return frontend_json.membership_request(call.instance, found)


def _get_membership(call: FrontendCall, organization: Organization) -> Membership:
    return memberships.get(call.instance, organization.id, call.params["user_id"])


def _filtered_memberships(call: FrontendCall, organization: Organization) -> Iterator[Membership]:
    wanted = call.query.texts("role")
    rows = memberships.list_by_organization(call.instance, organization.id)
    found = (row for row in rows if not wanted or row.role in wanted)
    return search.iter_memberships(call.instance, found, search.UserFilter(query=call.query.text("query")))


ROUTES = (
    FrontendRoute("GET", PATH, "ListOrganizationMemberships", list_members),
    FrontendRoute("POST", PATH, "CreateOrganizationMembership", create),
    FrontendRoute("PATCH", f"{PATH}/{{user_id}}", "UpdateOrganizationMembership", update),
    FrontendRoute("DELETE", f"{PATH}/{{user_id}}", "removeOrganizationMember", remove),
    FrontendRoute("GET", REQUESTS_PATH, "listOrganizationMembershipRequests", list_requests),
    FrontendRoute(
        "POST", f"{REQUESTS_PATH}/{{request_id}}/accept", "acceptOrganizationMembershipRequest", accept_request
    ),
    FrontendRoute(
        "POST", f"{REQUESTS_PATH}/{{request_id}}/reject", "rejectOrganizationMembershipRequest", reject_request
    ),
)
