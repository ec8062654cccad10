"""Domains of an organization, managed by its members; an address there, proved by a code, shows that one is theirs."""

from typing import Any

from clerk_emulator.frontend.standing import require, require_for_list
from clerk_emulator.frontend.visit import Route, Visit
from clerk_emulator.frontend.visit import require as require_field
from clerk_emulator.state import domains, enrollment, proofs, roles
from clerk_emulator.state.kinds import OrganizationDomain
from clerk_emulator.wire import front
from clerk_emulator.wire.people import deleted

PATH = "/organizations/{organization_id}/domains"
ONE = f"{PATH}/{{domain_id}}"


def list_domains(visit: Visit) -> Any:
    """Answer a page of the domains, newest first."""
    organization = require_for_list(visit, roles.MANAGE_DOMAINS, roles.READ_DOMAINS)
    is_verified, modes = visit.query.flag("verified"), visit.query.texts("enrollment_mode")
    found = [
        row
        for row in domains.of_organization(visit.instance, organization.id)
        if is_verified in (None, row.is_verified) and (not modes or row.enrollment_mode in modes)
    ]
    data = [front.domain(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


def create(visit: Visit) -> Any:
    """Give an organization a domain, to be proved."""
    organization = require(visit, roles.MANAGE_DOMAINS)
    name, mode = require_field(visit.fields, "name"), visit.fields.text("enrollment_mode")
    draft = {"name": name, "enrollment_mode": mode, "verified": False}
    return front.domain(visit.instance, domains.create(visit.instance, organization, draft))


def get(visit: Visit) -> Any:
    """Answer a domain."""
    return front.domain(visit.instance, _domain(visit, roles.MANAGE_DOMAINS, roles.READ_DOMAINS))


def delete(visit: Visit) -> Any:
    """Take a domain away."""
    found = _domain(visit, roles.MANAGE_DOMAINS)
    return deleted("organization_domain", domains.delete(visit.instance, found).id)


def change_mode(visit: Visit) -> Any:
    """Change how people with an address there may join."""
    found = _domain(visit, roles.MANAGE_DOMAINS)
    changes = {"enrollment_mode": require_field(visit.fields, "enrollment_mode")}
    changed = domains.update(visit.instance, found, changes)
    if visit.fields.flag("delete_pending"):
        enrollment.drop_pending(visit.instance, changed)
    return front.domain(visit.instance, changed)


def prepare(visit: Visit) -> Any:
    """Send a code to an address of the domain."""
    found = _domain(visit, roles.MANAGE_DOMAINS)
    address = require_field(visit.fields, domains.AFFILIATION)
    return front.domain(visit.instance, found, domains.prepare(visit.instance, found, address, visit.user))


def attempt(visit: Visit) -> Any:
    """Try the code."""
    found = _domain(visit, roles.MANAGE_DOMAINS)
    proof = proofs.newest(visit.instance, found.id)
    proofs.require_right(visit.instance, proof.id, "email_code", require_field(visit.fields, "code"))
    return front.domain(visit.instance, domains.update(visit.instance, found, {"verified": True}))


def _domain(visit: Visit, *permissions: str) -> OrganizationDomain:
    return domains.get(visit.instance, require(visit, *permissions), visit.params["domain_id"])


ROUTES = (
    Route("GET", PATH, "ListOrganizationDomains", list_domains),
    Route("POST", PATH, "CreateOrganizationDomain", create),
    Route("GET", ONE, "GetOrganizationDomain", get),
    Route("DELETE", ONE, "deleteOrganizationDomain", delete),
    Route("POST", f"{ONE}/update_enrollment_mode", "UpdateOrganizationDomainEnrollmentMode", change_mode),
    Route("POST", f"{ONE}/prepare_affiliation_verification", "prepareOrganizationDomainVerification", prepare),
    Route("POST", f"{ONE}/attempt_affiliation_verification", "attemptOrganizationDomainVerification", attempt),
)
