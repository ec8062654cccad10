"""Domains of organizations: whose addresses they are, and how their owners may join."""

import re
from typing import Any

from clerk_emulator.state import emails, post, proofs
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import OrganizationDomain
from clerk_emulator.state.model import Organization, User, Verification
from clerk_emulator.state.refusals import Problem, Refused, bad_format, bad_parameter, bad_value, missing_resource

AFFILIATION = "affiliation_email_address"
NAME = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
MODES = ("manual_invitation", "automatic_invitation", "automatic_suggestion", "enterprise_sso")
COMMON = {"gmail.com", "outlook.com", "hotmail.com", "yahoo.com", "icloud.com", "proton.me", "gmx.de", "aol.com"}


def of_organization(instance: Instance, organization_id: str) -> list[OrganizationDomain]:
    """Return the domains of an organization, newest first."""
    return [row for row in instance.organization_domains.newest_first() if row.organization_id == organization_id]


def get(instance: Instance, organization: Organization, domain_id: str) -> OrganizationDomain:
    """Return a domain of an organization, or refuse."""
    found = instance.organization_domains.find(domain_id)
    if found is None or found.organization_id != organization.id:
        raise missing_resource("organization domain", domain_id)
    return found


def find_verified(instance: Instance, name: str) -> OrganizationDomain | None:
    """Return the domain of this name, if it is an organization's for sure."""
    return next((row for row in instance.organization_domains if row.name == name and row.is_verified), None)


def create(instance: Instance, organization: Organization, draft: dict[str, Any]) -> OrganizationDomain:
    """Give an organization a domain and tell of it."""
    if not instance.settings.organization_domains_enabled:
        words = "Domains of organizations are switched off."
        raise Refused(403, Problem("organization_domains_not_enabled", "not enabled", words))
    name = (draft.get("name") or "").strip().lower()
    _require_free(instance, organization, name)
    mode = draft.get("enrollment_mode") or "manual_invitation"
    _require_mode(instance, mode)
    limit = instance.settings.max_allowed_domains
    if limit and len(of_organization(instance, organization.id)) >= limit:
        raise Refused(403, Problem("organization_domain_quota_exceeded", "too many", f"At most {limit} domains."))
    now = instance.now
    is_verified = draft.get("verified") is not False
    made = OrganizationDomain(
        id=instance.ids.new("orgdmn"),
        organization_id=organization.id,
        name=name,
        enrollment_mode=mode,
        is_verified=is_verified,
        verified_at=now if is_verified else None,
        created_at=now,
        updated_at=now,
    )
    instance.organization_domains.add(made)
    instance.tell("organizationDomain.created", made)
    return made


def update(instance: Instance, domain: OrganizationDomain, changes: dict[str, Any]) -> OrganizationDomain:
    """Change how people join by a domain, or whether it is verified, and tell of it."""
    if changes.get("enrollment_mode"):
        _require_mode(instance, changes["enrollment_mode"])
        domain.enrollment_mode = changes["enrollment_mode"]
    if changes.get("verified") is not None:
        domain.is_verified = changes["verified"]
        domain.verified_at = instance.now if domain.is_verified else None
    instance.touch_and_tell("organizationDomain.updated", domain)
    return domain


def delete(instance: Instance, domain: OrganizationDomain) -> OrganizationDomain:
    """Take a domain away and tell of it."""
    instance.organization_domains.remove(domain.id)
    instance.tell("organizationDomain.deleted", domain)
    return domain


def prepare(instance: Instance, domain: OrganizationDomain, address: str, user: User) -> Verification:
    """Send a code to an address of the domain, by which a member shows that it is theirs."""
    found = emails.check_shape(address, AFFILIATION)
    if found.partition("@")[2] != domain.name:
        raise Refused(
            422, bad_parameter("organization_domain_mismatch", AFFILIATION, f"is no address of {domain.name}")
        )
    domain.affiliation_email_address = found
    code = post.send_code(instance, found, user.id, domain.id)
    instance.touch_and_tell("organizationDomain.updated", domain)
    return proofs.open_(instance, domain.id, code, "email_code")


def _require_free(instance: Instance, organization: Organization, name: str) -> None:
    if not NAME.fullmatch(name):
        raise bad_format("name", "must be a valid domain")
    if name in COMMON:
        words = "This domain belongs to a common provider of mailboxes."
        raise Refused(422, Problem("organization_domain_common", "common domain", words, {"param_name": "name"}))
    for row in instance.organization_domains:
        if row.name == name:
            own = row.organization_id == organization.id
            code = "organization_domain_already_exists" + ("_same_organization" if own else "")
            raise Refused(422, Problem(code, "taken", "An organization has this domain.", {"param_name": "name"}))


def _require_mode(instance: Instance, mode: str) -> None:
    if mode not in MODES:
        raise bad_value("enrollment_mode", f"must be one of {', '.join(MODES)}")
    if mode not in ("enterprise_sso", *instance.settings.enrollment_modes):
        words = f"Joining by {mode} is switched off."
        raise Refused(403, Problem("organization_domain_enrollment_mode_not_enabled", "not enabled", words))
