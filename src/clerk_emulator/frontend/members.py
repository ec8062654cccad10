"""The members of an organization: listing them, changing a role, taking one out, and requests to join."""

from collections.abc import Iterator
from typing import Any

from clerk_emulator.frontend.standing import require, require_for_list
from clerk_emulator.frontend.visit import Route, Visit
from clerk_emulator.frontend.visit import require as require_field
from clerk_emulator.state import enrollment, memberships, roles, search, users
from clerk_emulator.state.model import Membership, Organization
from clerk_emulator.wire import front

PATH = "/organizations/{organization_id}/memberships"
REQUESTS = "/organizations/{organization_id}/membership_requests"


def list_members(visit: Visit) -> Any:
    """Answer a page of the members, by role and by a part of name or address."""
    organization = require_for_list(visit, roles.MANAGE_MEMBERS, roles.READ_MEMBERS)
    found = list(_fitting(visit, organization))
    data = [front.membership(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)} if visit.query.flag("paginated") else data


def create(visit: Visit) -> Any:
    """Make a user a member."""
    organization = require(visit, roles.MANAGE_MEMBERS)
    user = users.get(visit.instance, require_field(visit.fields, "user_id"))
    made = memberships.create(visit.instance, organization, user, require_field(visit.fields, "role"), {})
    return front.membership(visit.instance, made)


def update(visit: Visit) -> Any:
    """Give a member another role."""
    found = _member(visit, require(visit, roles.MANAGE_MEMBERS))
    changed = memberships.change_role(visit.instance, found, require_field(visit.fields, "role"))
    return front.membership(visit.instance, changed)


def remove(visit: Visit) -> Any:
    """Take a member out; the answer is the membership as it was."""
    found = _member(visit, require(visit, roles.MANAGE_MEMBERS))
    return front.membership(visit.instance, memberships.delete(visit.instance, found))


def list_requests(visit: Visit) -> Any:
    """Answer a page of the requests to join, newest first."""
    organization = require_for_list(visit, roles.MANAGE_MEMBERS)
    shapes = [front.request(visit.instance, row) for row in enrollment.requests(visit.instance, organization)]
    statuses = visit.query.texts("status")
    found = [shape for shape in shapes if not statuses or shape["status"] in statuses]
    return {"data": visit.query.page(found), "total_count": len(found)}


def accept_request(visit: Visit) -> Any:
    """Let in who asked."""
    return _decide(visit, is_accepted=True)


def reject_request(visit: Visit) -> Any:
    """Leave out who asked."""
    return _decide(visit, is_accepted=False)


def _decide(visit: Visit, *, is_accepted: bool) -> Any:
    organization, wanted = require(visit, roles.MANAGE_MEMBERS), visit.params["request_id"]
    found = enrollment.decide(visit.instance, organization, wanted, is_accepted=is_accepted)
    return front.request(visit.instance, found)


def _member(visit: Visit, organization: Organization) -> Membership:
    return memberships.get(visit.instance, organization.id, visit.params["user_id"])


def _fitting(visit: Visit, organization: Organization) -> Iterator[Membership]:
    wanted = visit.query.texts("role")
    rows = memberships.of_organization(visit.instance, organization.id)
    found = (row for row in rows if not wanted or row.role in wanted)
    return search.members_who_fit(visit.instance, found, search.Criteria(query=visit.query.text("query")))


ROUTES = (
    Route("GET", PATH, "ListOrganizationMemberships", list_members),
    Route("POST", PATH, "CreateOrganizationMembership", create),
    Route("PATCH", f"{PATH}/{{user_id}}", "UpdateOrganizationMembership", update),
    Route("DELETE", f"{PATH}/{{user_id}}", "removeOrganizationMember", remove),
    Route("GET", REQUESTS, "listOrganizationMembershipRequests", list_requests),
    Route("POST", f"{REQUESTS}/{{request_id}}/accept", "acceptOrganizationMembershipRequest", accept_request),
    Route("POST", f"{REQUESTS}/{{request_id}}/reject", "rejectOrganizationMembershipRequest", reject_request),
)
