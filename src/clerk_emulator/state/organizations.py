"""Organizations: create, update and delete."""

import re
from typing import Any

from clerk_emulator.state import memberships, metadata, role_sets
from clerk_emulator.state.errors import (
    ApiError,
    ErrorDetail,
    identifier_exists_error,
    invalid_format_error,
    invalid_value_error,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Organization

SLUG = re.compile(r"[a-z0-9-]+")
METADATA_FIELDS = ("public_metadata", "private_metadata")


def find(instance: Instance, id_or_slug: str) -> Organization | None:
    """Return an organization by id or slug, or None."""
    found = instance.organizations.find(id_or_slug)
    return found or instance.organizations.find(instance.slugs.get(id_or_slug))


def get(instance: Instance, id_or_slug: str) -> Organization:
    """Return an organization by id or slug, or raise an ApiError."""
    organization = find(instance, id_or_slug)
    if organization is None:
        message = f"There is no organization {id_or_slug}."
        raise ApiError(404, ErrorDetail("resource_not_found", "organization not found", message))
    return organization


def create(instance: Instance, draft: dict[str, Any]) -> Organization:
    """Create an organization with its creator as administrator, and publish both events."""
    if not instance.settings.organizations_enabled:
        message = "Organizations are not enabled."
        raise ApiError(403, ErrorDetail("organization_not_enabled_in_instance", "not enabled", message))
    _require_name(draft["name"])
    creator = instance.users.find(draft.get("created_by"))
    if draft.get("created_by") and creator is None:
        raise invalid_value_error("created_by", "is not a user")
    if draft.get("slug"):
        _require_free_slug(instance, draft["slug"])
    if draft.get("role_set_key"):
        role_sets.get(instance, draft["role_set_key"])
    organization = _build_organization(instance, draft)
    insert_record(instance, organization)
    instance.publish("organization.created", organization)
    if creator is not None and draft.get("creator_joins", True):
        memberships.create_unchecked(instance, organization, creator, _creator_role(instance, organization), {})
    return organization


def update(instance: Instance, organization: Organization, changes: dict[str, Any]) -> Organization:
    """Update an organization and publish the event."""
    if changes.get("name") is not None:
        _require_name(changes["name"])
    slug = changes.get("slug")
    if slug and slug != organization.slug:
        _require_free_slug(instance, slug)
    metadata.replace_in(organization, {name: changes[name] for name in METADATA_FIELDS if name in changes})
    if slug and slug != organization.slug:
        del instance.slugs[organization.slug]
        organization.slug = slug
        instance.slugs[slug] = organization.id
    for name in ("name", "max_allowed_memberships", "admin_delete_enabled"):
        if changes.get(name) is not None:
            setattr(organization, name, changes[name])
    if changes.get("role_set_key"):
        organization.role_set = role_sets.get(instance, changes["role_set_key"]).key
    if changes.get("created_at") is not None:
        organization.created_at = changes["created_at"]
        instance.organizations.reposition(organization)
    instance.touch_and_publish("organization.updated", organization)
    return organization


def merge_metadata(instance: Instance, organization: Organization, changes: dict[str, Any]) -> Organization:
    """Merge metadata deeply and publish the event."""
    metadata.merge_into(organization, changes)
    instance.touch_and_publish("organization.updated", organization)
    return organization


def replace_metadata(instance: Instance, organization: Organization, changes: dict[str, Any]) -> Organization:
    """Replace the given metadata fields and publish the event."""
    metadata.replace_in(organization, changes)
    instance.touch_and_publish("organization.updated", organization)
    return organization


def delete(instance: Instance, organization: Organization) -> Organization:
    """Delete an organization with its memberships and invitations; a setting decides whether those have events."""
    should_publish_events = instance.settings.cascade_events
    for membership in memberships.list_by_organization(instance, organization.id):
        memberships.remove_record(instance, membership)
        if should_publish_events:
            instance.publish("organizationMembership.deleted", membership)
    for invitation_id in list(instance.invitations_of_organization.of(organization.id).ids()):
        invitation = instance.organization_invitations.find(invitation_id)
        key = instance.organization_invitations.remove(invitation_id)
        instance.invitations_of_organization.remove(organization.id, key)
        if invitation is None or invitation.settled is not None:
            continue
        if invitation.domain_id is None:
            instance.open_invitations.remove(organization.id, invitation.expiry_key)
            instance.invited.pop((organization.id, invitation.email_address), None)
        if should_publish_events and invitation.status(instance.now) == "pending":
            invitation.settled = "revoked"
            instance.publish("organizationInvitation.revoked", invitation)
    for session in instance.sessions:
        if session.last_active_organization_id == organization.id:
            session.last_active_organization_id = None
    for domain in [row for row in instance.organization_domains if row.organization_id == organization.id]:
        instance.organization_domains.remove(domain.id)
    for suggestion in [row for row in instance.organization_suggestions if row.organization_id == organization.id]:
        instance.organization_suggestions.remove(suggestion.id)
    instance.organizations.remove(organization.id)
    del instance.slugs[organization.slug]
    instance.publish("organization.deleted", organization)
    return organization


def set_image(instance: Instance, organization: Organization, image_url: str) -> Organization:
    """Set or delete the logo of an organization and publish the event."""
    organization.image_url = image_url
    instance.touch_and_publish("organization.updated", organization)
    return organization


def insert_record(instance: Instance, organization: Organization) -> None:
    """Add an organization to the table and its index."""
    instance.organizations.add(organization)
    instance.slugs[organization.slug] = organization.id


def _build_organization(instance: Instance, draft: dict[str, Any]) -> Organization:
    now, limit = instance.now, draft.get("max_allowed_memberships")
    organization = Organization(
        id=draft.get("id") or instance.ids.new("org"),
        name=draft["name"],
        slug=draft.get("slug") or _generate_slug(instance, draft["name"]),
        max_allowed_memberships=instance.settings.max_allowed_memberships if limit is None else limit,
        admin_delete_enabled=instance.settings.admin_delete_enabled,
        created_by=draft.get("created_by"),
        role_set=draft.get("role_set_key"),
        created_at=draft.get("created_at") or now,
        updated_at=draft.get("updated_at") or now,
    )
    metadata.replace_in(organization, {name: draft.get(name) for name in METADATA_FIELDS})
    return organization


def _creator_role(instance: Instance, organization: Organization) -> str:
    if organization.role_set is None:
        return instance.settings.creator_role
    return role_sets.get(instance, organization.role_set).creator_role


def _require_name(name: str) -> None:
    if not name.strip() or len(name) > 256:
        raise invalid_value_error("name", "must have 1 to 256 characters")


def _require_free_slug(instance: Instance, slug: str) -> None:
    if instance.settings.organization_slugs_disabled:
        message = "Organization slugs are not enabled."
        raise ApiError(403, ErrorDetail("organization_slugs_disabled", "slugs not enabled", message))
    if not SLUG.fullmatch(slug):
        raise invalid_format_error("slug", "may contain only lowercase letters, digits and dashes")
    if slug in instance.slugs:
        raise identifier_exists_error("slug")


def _generate_slug(instance: Instance, name: str) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "organization"
    slug, number = base, instance.now // 1000
    while slug in instance.slugs:
        slug, number = f"{base}-{number}", number + 1
    return slug
