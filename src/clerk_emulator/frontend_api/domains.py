"""Frontend API: organization domains and their verification."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.frontend_api.organization_access import authorize_organization, authorize_organization_list
from clerk_emulator.state import domain_enrollment, domains, roles, verifications
from clerk_emulator.state.models import OrganizationDomain
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.user_json import deleted_object

PATH = "/organizations/{organization_id}/domains"
DOMAIN_PATH = f"{PATH}/{{domain_id}}"


def list_domains(visit: FrontendCall) -> Any:
    """Answer a page of the domains, newest first."""
    organization = authorize_organization_list(visit, roles.MANAGE_DOMAINS, roles.READ_DOMAINS)
    is_verified, modes = visit.query.flag("verified"), visit.query.texts("enrollment_mode")
    found = [
        row
        for row in domains.list_by_organization(visit.instance, organization.id)
        if is_verified in (None, row.is_verified) and (not modes or row.enrollment_mode in modes)
    ]
    data = [frontend_json.domain(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


def create(visit: FrontendCall) -> Any:
    """Give an organization a domain, to be proved."""
    organization = authorize_organization(visit, roles.MANAGE_DOMAINS)
    name, mode = require_field(visit.fields, "name"), visit.fields.text("enrollment_mode")
    draft = {"name": name, "enrollment_mode": mode, "verified": False}
    return frontend_json.domain(visit.instance, domains.create(visit.instance, organization, draft))


def get(visit: FrontendCall) -> Any:
    """Answer a domain."""
    return frontend_json.domain(visit.instance, _get_domain(visit, roles.MANAGE_DOMAINS, roles.READ_DOMAINS))


def delete(visit: FrontendCall) -> Any:
    """Take a domain away."""
    found = _get_domain(visit, roles.MANAGE_DOMAINS)
    return deleted_object("organization_domain", domains.delete(visit.instance, found).id)


def update_enrollment_mode(visit: FrontendCall) -> Any:
    """Change how people with an address there may join."""
    found = _get_domain(visit, roles.MANAGE_DOMAINS)
    changes = {"enrollment_mode": require_field(visit.fields, "enrollment_mode")}
    changed = domains.update(visit.instance, found, changes)
    if visit.fields.flag("delete_pending"):
        domain_enrollment.delete_pending(visit.instance, changed)
    return frontend_json.domain(visit.instance, changed)


def prepare_verification(visit: FrontendCall) -> Any:
    """Send a code to an address of the domain."""
    found = _get_domain(visit, roles.MANAGE_DOMAINS)
    address = require_field(visit.fields, domains.AFFILIATION_STRATEGY)
    return frontend_json.domain(
        visit.instance, found, domains.prepare_verification(visit.instance, found, address, visit.user)
    )


def attempt_verification(visit: FrontendCall) -> Any:
    """Try the code."""
    found = _get_domain(visit, roles.MANAGE_DOMAINS)
    proof = verifications.get_latest(visit.instance, found.id)
    verifications.require_code(visit.instance, proof.id, "email_code", require_field(visit.fields, "code"))
    return frontend_json.domain(visit.instance, domains.update(visit.instance, found, {"verified": True}))


def _get_domain(visit: FrontendCall, *permissions: str) -> OrganizationDomain:
    return domains.get(visit.instance, authorize_organization(visit, *permissions), visit.params["domain_id"])


ROUTES = (
    FrontendRoute("GET", PATH, "ListOrganizationDomains", list_domains),
    FrontendRoute("POST", PATH, "CreateOrganizationDomain", create),
    FrontendRoute("GET", DOMAIN_PATH, "GetOrganizationDomain", get),
    FrontendRoute("DELETE", DOMAIN_PATH, "deleteOrganizationDomain", delete),
    FrontendRoute(
        "POST",
        f"{DOMAIN_PATH}/update_enrollment_mode",
        "UpdateOrganizationDomainEnrollmentMode",
        update_enrollment_mode,
    ),
    FrontendRoute(
        "POST",
        f"{DOMAIN_PATH}/prepare_affiliation_verification",
        "prepareOrganizationDomainVerification",
        prepare_verification,
    ),
    FrontendRoute(
        "POST",
        f"{DOMAIN_PATH}/attempt_affiliation_verification",
        "attemptOrganizationDomainVerification",
        attempt_verification,
    ),
)
