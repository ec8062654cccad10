"""Organization domains: verification and enrollment modes."""

import re
from typing import Any

from clerk_emulator.state import emails, mailer, verifications
from clerk_emulator.state.errors import (
    ApiError,
    ErrorDetail,
    invalid_format_error,
    invalid_value_error,
    not_found_error,
    parameter_detail,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Organization, OrganizationDomain, User, Verification

AFFILIATION_STRATEGY = "affiliation_email_address"
DOMAIN_PATTERN = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
ENROLLMENT_MODES = ("manual_invitation", "automatic_invitation", "automatic_suggestion", "enterprise_sso")
PUBLIC_EMAIL_DOMAINS = {
    "gmail.com",
    "outlook.com",
    "hotmail.com",
    "yahoo.com",
    "icloud.com",
    "proton.me",
    "gmx.de",
    "aol.com",
}


def list_by_organization(instance: Instance, organization_id: str) -> list[OrganizationDomain]:
    """Return the domains of an organization, newest first."""
    return [row for row in instance.organization_domains.newest_first() if row.organization_id == organization_id]


def get(instance: Instance, organization: Organization, domain_id: str) -> OrganizationDomain:
    """Return a domain of an organization, or raise an ApiError."""
    found = instance.organization_domains.find(domain_id)
    if found is None or found.organization_id != organization.id:
        raise not_found_error("organization domain", domain_id)
    return found


def find_verified(instance: Instance, name: str) -> OrganizationDomain | None:
    """Return the verified domain with this name, or None."""
    return next((row for row in instance.organization_domains if row.name == name and row.is_verified), None)


def create(instance: Instance, organization: Organization, draft: dict[str, Any]) -> OrganizationDomain:
    """Create a domain of an organization and publish the event."""
    if not instance.settings.organization_domains_enabled:
        message = "Organization domains are not enabled."
        raise ApiError(403, ErrorDetail("organization_domains_not_enabled", "not enabled", message))
    name = (draft.get("name") or "").strip().lower()
    _require_free(instance, organization, name)
    mode = draft.get("enrollment_mode") or "manual_invitation"
    _require_mode(instance, mode)
    limit = instance.settings.max_allowed_domains
    if limit and len(list_by_organization(instance, organization.id)) >= limit:
        raise ApiError(
            403,
            ErrorDetail(
                "organization_domain_quota_exceeded", "too many", f"An organization may have at most {limit} domains."
            ),
        )
    now = instance.now
    is_verified = draft.get("verified") is not False
    created = OrganizationDomain(
        id=instance.ids.new("orgdmn"),
        organization_id=organization.id,
        name=name,
        enrollment_mode=mode,
        is_verified=is_verified,
        verified_at=now if is_verified else None,
        created_at=now,
        updated_at=now,
    )
    instance.organization_domains.add(created)
    instance.publish("organizationDomain.created", created)
    return created


def update(instance: Instance, domain: OrganizationDomain, changes: dict[str, Any]) -> OrganizationDomain:
    """Change enrollment mode or verification of a domain and publish the event."""
    if changes.get("enrollment_mode"):
        _require_mode(instance, changes["enrollment_mode"])
        domain.enrollment_mode = changes["enrollment_mode"]
    if changes.get("verified") is not None:
        domain.is_verified = changes["verified"]
        domain.verified_at = instance.now if domain.is_verified else None
    instance.touch_and_publish("organizationDomain.updated", domain)
    return domain


def delete(instance: Instance, domain: OrganizationDomain) -> OrganizationDomain:
    """Delete a domain and publish the event."""
    instance.organization_domains.remove(domain.id)
    instance.publish("organizationDomain.deleted", domain)
    return domain


def prepare_verification(instance: Instance, domain: OrganizationDomain, address: str, user: User) -> Verification:
    """Send a code to an address of the domain, by which a member verifies ownership."""
    found = emails.parse_address(address, AFFILIATION_STRATEGY)
    if found.partition("@")[2] != domain.name:
        raise ApiError(
            422,
            parameter_detail(
                "organization_domain_mismatch", AFFILIATION_STRATEGY, f"is not an address of {domain.name}"
            ),
        )
    domain.affiliation_email_address = found
    code = mailer.send_code(instance, found, user.id, domain.id)
    instance.touch_and_publish("organizationDomain.updated", domain)
    return verifications.create(instance, domain.id, code, "email_code")


def _require_free(instance: Instance, organization: Organization, name: str) -> None:
    if not DOMAIN_PATTERN.fullmatch(name):
        raise invalid_format_error("name", "must be a valid domain")
    if name in PUBLIC_EMAIL_DOMAINS:
        message = "This domain belongs to a common email provider."
        raise ApiError(422, ErrorDetail("organization_domain_common", "common domain", message, {"param_name": "name"}))
    for row in instance.organization_domains:
        if row.name == name:
            own = row.organization_id == organization.id
            code = "organization_domain_already_exists" + ("_same_organization" if own else "")
            raise ApiError(
                422, ErrorDetail(code, "taken", "Another organization has this domain.", {"param_name": "name"})
            )


def _require_mode(instance: Instance, mode: str) -> None:
    if mode not in ENROLLMENT_MODES:
        raise invalid_value_error("enrollment_mode", f"must be one of {', '.join(ENROLLMENT_MODES)}")
    if mode not in ("enterprise_sso", *instance.settings.enrollment_modes):
        message = f"The enrollment mode {mode} is not enabled."
        raise ApiError(403, ErrorDetail("organization_domain_enrollment_mode_not_enabled", "not enabled", message))
