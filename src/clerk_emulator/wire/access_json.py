"""JSON of access lists, tokens, JWT templates, waitlist, domains and role sets."""

from typing import Any

from clerk_emulator.state import access_lists, memberships, role_sets
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import (
    AccessListEntry,
    JwtTemplate,
    OrganizationDomain,
    RedirectUrl,
    RoleSet,
    SignInToken,
    WaitlistEntry,
)
from clerk_emulator.wire.avatars import organization_image_url
from clerk_emulator.wire.organization_json import accept_url, invitation

JsonObject = dict[str, Any]


def access_list_entry(instance: Instance, found: AccessListEntry, object_: str) -> JsonObject:
    """Return an entry of the allowlist or blocklist."""
    result = {
        "object": object_,
        "id": found.id,
        "identifier": found.identifier,
        "identifier_type": access_lists.identifier_type(found.identifier),
        "instance_id": instance.id,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
    return {**result, "invitation_id": found.invitation_id} if found.invitation_id else result


def redirect_url(found: RedirectUrl) -> JsonObject:
    """Return a redirect URL."""
    return {"object": "redirect_url", "id": found.id, "url": found.url, **_timestamps(found)}


def jwt_template(found: JwtTemplate) -> JsonObject:
    """Return a JWT template."""
    return {
        "object": "jwt_template",
        "id": found.id,
        "name": found.name,
        "claims": found.claims,
        "lifetime": found.lifetime,
        "allowed_clock_skew": found.allowed_clock_skew,
        "custom_signing_key": False,
        "signing_algorithm": "RS256",
        **_timestamps(found),
    }


def sign_in_token(found: SignInToken, site: str) -> JsonObject:
    """Return a sign-in token."""
    return {
        "object": "sign_in_token",
        "id": found.id,
        "status": found.status,
        "user_id": found.user_id,
        "token": found.ticket,
        "url": accept_url(site, found.ticket),
        **_timestamps(found),
    }


def actor_token(found: SignInToken, site: str) -> JsonObject:
    """Return an actor token."""
    return {**sign_in_token(found, site), "object": "actor_token", "actor": found.actor}


def waitlist_entry(instance: Instance, found: WaitlistEntry, site: str) -> JsonObject:
    """Return a waitlist entry with its invitation."""
    result: JsonObject = {
        "object": "waitlist_entry",
        "id": found.id,
        "email_address": found.email_address,
        "status": found.status,
        "is_locked": False,
        **_timestamps(found),
    }
    invited = instance.invitations.find(found.invitation_id)
    return {**result, "invitation": invitation(instance, invited, site) if invited else None}


def organization_domain(instance: Instance, found: OrganizationDomain) -> JsonObject:
    """Return an organization domain."""
    owner = instance.organizations.find(found.organization_id)
    verification = _domain_verification(found)
    result: JsonObject = {
        "object": "organization_domain",
        "id": found.id,
        "organization_id": found.organization_id,
        "name": found.name,
        "enrollment_mode": found.enrollment_mode,
        "affiliation_email_address": found.affiliation_email_address,
        "affiliation_verification": verification,
        "ownership_verification": None,
        "verification": verification,
        "total_pending_invitations": sum(
            row.domain_id == found.id and row.status(instance.now) == "pending"
            for row in instance.organization_invitations
        ),
        "total_pending_suggestions": sum(
            row.domain_id == found.id and row.status == "pending" for row in instance.organization_suggestions
        ),
        **_timestamps(found),
    }
    if owner is not None:
        public = {"id": owner.id, "name": owner.name, "slug": owner.slug}
        result["public_organization_data"] = {
            **public,
            "image_url": organization_image_url(instance, owner),
            "has_image": bool(owner.image_url),
        }
    return result


def role_set(instance: Instance, found: RoleSet) -> JsonObject:
    """Return a role set."""
    items = {key: _role_set_item(instance, found, key) for key in found.roles if key in instance.roles}
    result = {
        "object": "role_set",
        "id": found.id,
        "name": found.name,
        "key": found.key,
        "description": found.description,
        "roles": list(items.values()),
        "default_role": items.get(found.default_role),
        "creator_role": items.get(found.creator_role),
        "type": found.type,
        "role_set_migration": None,
        **_timestamps(found),
    }
    return {name: value for name, value in result.items() if value is not None or name == "description"}


def _role_set_item(instance: Instance, found: RoleSet, key: str) -> JsonObject:
    role = instance.roles[key]
    owners = [row for row in instance.organizations if role_sets.get_by_organization(instance, row.role_set) is found]
    count = sum(instance.role_counts[row.id, key] for row in owners if memberships.count(instance, row.id))
    return {
        "object": "role_set_item",
        "id": role.id,
        "name": role.name,
        "key": role.key,
        "description": role.description,
        "members_count": count,
        "has_members": count > 0,
        **_timestamps(role),
    }


def _domain_verification(found: OrganizationDomain) -> JsonObject | None:
    if not found.is_verified:
        return None
    return {
        "status": "verified",
        "strategy": "email_code" if found.affiliation_email_address else "admin",
        "attempts": None,
        "expire_at": None,
        "verified_at": found.verified_at,
    }


def _timestamps(found: Any) -> JsonObject:
    return {"created_at": found.created_at, "updated_at": found.updated_at}
