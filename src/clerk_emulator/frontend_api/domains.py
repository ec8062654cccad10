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


def list_domains(call: FrontendCall) -> Any:
    """List the domains of an organization, newest first."""
    organization = authorize_organization_list(call, roles.MANAGE_DOMAINS, roles.READ_DOMAINS)
    is_verified, modes = call.query.flag("verified"), call.query.texts("enrollment_mode")
    found = [
        row
        for row in domains.list_by_organization(call.instance, organization.id)
        if is_verified in (None, row.is_verified) and (not modes or row.enrollment_mode in modes)
    ]
    data = [frontend_json.domain(call.instance, row) for row in call.query.page(found)]
    return {"data": data, "total_count": len(found)}


def create(call: FrontendCall) -> Any:
    """Create an unverified domain of an organization."""
    organization = authorize_organization(call, roles.MANAGE_DOMAINS)
    name, mode = require_field(call.fields, "name"), call.fields.text("enrollment_mode")
    draft = {"name": name, "enrollment_mode": mode, "verified": False}
    return frontend_json.domain(call.instance, domains.create(call.instance, organization, draft))


def get(call: FrontendCall) -> Any:
    """Return a domain."""
    return frontend_json.domain(call.instance, _get_domain(call, roles.MANAGE_DOMAINS, roles.READ_DOMAINS))


def delete(call: FrontendCall) -> Any:
    """Delete a domain."""
    found = _get_domain(call, roles.MANAGE_DOMAINS)
    return deleted_object("organization_domain", domains.delete(call.instance, found).id)


def update_enrollment_mode(call: FrontendCall) -> Any:
    """Change how people with an address of the domain join."""
    found = _get_domain(call, roles.MANAGE_DOMAINS)
    changes = {"enrollment_mode": require_field(call.fields, "enrollment_mode")}
    changed = domains.update(call.instance, found, changes)
    if call.fields.flag("delete_pending"):
        domain_enrollment.delete_pending(call.instance, changed)
    return frontend_json.domain(call.instance, changed)


def prepare_verification(call: FrontendCall) -> Any:
    """Send a code to an address of the domain."""
    found = _get_domain(call, roles.MANAGE_DOMAINS)
    address = require_field(call.fields, domains.AFFILIATION_STRATEGY)
    return frontend_json.domain(
        call.instance, found, domains.prepare_verification(call.instance, found, address, call.user)
    )


def attempt_verification(call: FrontendCall) -> Any:
    """Check the code."""
    found = _get_domain(call, roles.MANAGE_DOMAINS)
    verification = verifications.get_latest(call.instance, found.id)
    verifications.require_code(call.instance, verification.id, "email_code", require_field(call.fields, "code"))
    return frontend_json.domain(call.instance, domains.update(call.instance, found, {"verified": True}))


def _get_domain(call: FrontendCall, *permissions: str) -> OrganizationDomain:
    return domains.get(call.instance, authorize_organization(call, *permissions), call.params["domain_id"])


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
