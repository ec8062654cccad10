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


def list_members(visit: FrontendCall) -> Any:
    """Answer a page of the members, by role and by a part of name or address."""
    organization = authorize_organization_list(visit, roles.MANAGE_MEMBERS, roles.READ_MEMBERS)
    found = list(_filtered_memberships(visit, organization))
    data = [frontend_json.membership(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)} if visit.query.flag("paginated") else data


def create(visit: FrontendCall) -> Any:
    """Make a user a member."""
    organization = authorize_organization(visit, roles.MANAGE_MEMBERS)
    user = users.get(visit.instance, require_field(visit.fields, "user_id"))
    made = memberships.create(visit.instance, organization, user, require_field(visit.fields, "role"), {})
    return frontend_json.membership(visit.instance, made)


def update(visit: FrontendCall) -> Any:
    """Give a member another role."""
    found = _get_membership(visit, authorize_organization(visit, roles.MANAGE_MEMBERS))
    changed = memberships.change_role(visit.instance, found, require_field(visit.fields, "role"))
    return frontend_json.membership(visit.instance, changed)


def remove(visit: FrontendCall) -> Any:
    """Take a member out; the answer is the membership as it was."""
    found = _get_membership(visit, authorize_organization(visit, roles.MANAGE_MEMBERS))
    return frontend_json.membership(visit.instance, memberships.delete(visit.instance, found))


def list_requests(visit: FrontendCall) -> Any:
    """Answer a page of the requests to join, newest first."""
    organization = authorize_organization_list(visit, roles.MANAGE_MEMBERS)
    shapes = [
        frontend_json.membership_request(visit.instance, row)
        for row in domain_enrollment.list_requests(visit.instance, organization)
    ]
    statuses = visit.query.texts("status")
    found = [shape for shape in shapes if not statuses or shape["status"] in statuses]
    return {"data": visit.query.page(found), "total_count": len(found)}


def accept_request(visit: FrontendCall) -> Any:
    """Let in who asked."""
    return _decide_request(visit, is_accepted=True)


def reject_request(visit: FrontendCall) -> Any:
    """Leave out who asked."""
    return _decide_request(visit, is_accepted=False)


def _decide_request(visit: FrontendCall, *, is_accepted: bool) -> Any:
    organization, wanted = authorize_organization(visit, roles.MANAGE_MEMBERS), visit.params["request_id"]
    found = domain_enrollment.decide_request(visit.instance, organization, wanted, is_accepted=is_accepted)
    return frontend_json.membership_request(visit.instance, found)


def _get_membership(visit: FrontendCall, organization: Organization) -> Membership:
    return memberships.get(visit.instance, organization.id, visit.params["user_id"])


def _filtered_memberships(visit: FrontendCall, organization: Organization) -> Iterator[Membership]:
    wanted = visit.query.texts("role")
    rows = memberships.list_by_organization(visit.instance, organization.id)
    found = (row for row in rows if not wanted or row.role in wanted)
    return search.iter_memberships(visit.instance, found, search.UserFilter(query=visit.query.text("query")))


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
