"""Memberships: create, change role, delete; an organization keeps an administrator."""

from typing import Any

from clerk_emulator.state import directory_managed, metadata, roles
from clerk_emulator.state.errors import (
    already_member_error,
    last_admin_error,
    missing_permission_error,
    not_a_member_error,
    not_found_error,
    quota_exceeded_error,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Membership, Organization, User

METADATA_FIELDS = ("public_metadata", "private_metadata")


def find(instance: Instance, organization_id: str, user_id: str) -> Membership | None:
    """Return the membership of a user in an organization, or None."""
    return instance.memberships.find(instance.membership_of.get((organization_id, user_id)))


def get(instance: Instance, organization_id: str, user_id: str) -> Membership:
    """Return the membership of a user in an organization, or raise an ApiError."""
    membership = find(instance, organization_id, user_id)
    if membership is None:
        raise not_found_error("organization membership", user_id)
    return membership


def list_by_user(instance: Instance, user_id: str) -> list[Membership]:
    """Return all memberships of a user, newest first."""
    found = map(instance.memberships.find, instance.user_memberships.of(user_id).ids())
    return [membership for membership in found if membership is not None]


def list_by_organization(instance: Instance, organization_id: str) -> list[Membership]:
    """Return all memberships of an organization, newest first."""
    found = map(instance.memberships.find, instance.organization_members.of(organization_id).ids())
    return [membership for membership in found if membership is not None]


def count(instance: Instance, organization_id: str) -> int:
    """Return the number of members of an organization."""
    return len(instance.organization_members.of(organization_id))


def count_pending_invitations(instance: Instance, organization_id: str) -> int:
    """Return the number of pending invitations to an organization."""
    return instance.open_invitations.of(organization_id).count_created_after(instance.now)


def require_quota(instance: Instance, organization: Organization, more: int = 1) -> None:
    """Reject exceeding the limit of members and pending invitations."""
    limit = organization.max_allowed_memberships
    if not limit:
        return
    if count(instance, organization.id) + count_pending_invitations(instance, organization.id) + more > limit:
        raise quota_exceeded_error(limit)


def require_can_manage(instance: Instance, organization: Organization, user_id: str | None) -> None:
    """Reject an acting user who may not manage members; None is the application."""
    if user_id is None:
        return
    membership = find(instance, organization.id, user_id)
    if membership is None:
        raise not_a_member_error()
    if membership.role not in roles.managing_roles(instance):
        raise missing_permission_error(roles.MANAGE_MEMBERS)


def require_permission(instance: Instance, membership: Membership, *permissions: str) -> None:
    """Reject a member whose role has none of these permissions."""
    role = instance.roles.get(membership.role)
    if role is None or not set(permissions) & set(role.permissions):
        raise missing_permission_error(*permissions)


def create(instance: Instance, organization: Organization, user: User, role: str, draft: dict[str, Any]) -> Membership:
    """Add a user to an organization by the Backend API, and publish the event."""
    roles.get_in_role_set(instance, organization.role_set, role)
    if find(instance, organization.id, user.id) is not None:
        raise already_member_error(user.identifier or user.id)
    require_quota(instance, organization)
    return create_unchecked(instance, organization, user, role, draft)


def create_unchecked(
    instance: Instance, organization: Organization, user: User, role: str, draft: dict[str, Any]
) -> Membership:
    """Add a user to an organization regardless of the limit, and publish the event."""
    now = instance.now
    membership = Membership(
        id=draft.get("id") or instance.ids.new("orgmem"),
        organization_id=organization.id,
        user_id=user.id,
        role=role,
        directory_id=draft.get("directory_id"),
        created_at=draft.get("created_at") or now,
        updated_at=draft.get("updated_at") or now,
    )
    metadata.replace_in(membership, {name: draft.get(name) for name in METADATA_FIELDS})
    insert_record(instance, membership)
    instance.publish("organizationMembership.created", membership)
    return membership


def insert_record(instance: Instance, membership: Membership) -> None:
    """Add a membership to the table and its indexes."""
    key = instance.memberships.add(membership)
    instance.organization_members.add(membership.organization_id, key)
    instance.user_memberships.add(membership.user_id, key)
    instance.membership_of[membership.organization_id, membership.user_id] = membership.id
    instance.role_counts[membership.organization_id, membership.role] += 1


def remove_record(instance: Instance, membership: Membership) -> None:
    """Remove a membership from the table and its indexes."""
    key = instance.memberships.remove(membership.id)
    instance.organization_members.remove(membership.organization_id, key)
    instance.user_memberships.remove(membership.user_id, key)
    del instance.membership_of[membership.organization_id, membership.user_id]
    instance.role_counts[membership.organization_id, membership.role] -= 1


def change_role(instance: Instance, membership: Membership, role: str) -> Membership:
    """Change the role of a member and publish the event; the last administrator keeps the role."""
    directory_managed.require_unmanaged_membership(instance, membership)
    organization = instance.organizations.find(membership.organization_id)
    roles.get_in_role_set(instance, organization.role_set if organization else None, role)
    if role not in roles.managing_roles(instance):
        _require_other_manager(instance, membership)
    return set_role(instance, membership, role)


def set_role(instance: Instance, membership: Membership, role: str) -> Membership:
    """Change the role of a member without the check for the last administrator, and publish the event."""
    instance.role_counts[membership.organization_id, membership.role] -= 1
    membership.role = role
    instance.role_counts[membership.organization_id, membership.role] += 1
    instance.touch_and_publish("organizationMembership.updated", membership)
    return membership


def delete(instance: Instance, membership: Membership) -> Membership:
    """Delete a membership and publish the event; the last administrator cannot be removed."""
    directory_managed.require_unmanaged_membership(instance, membership)
    _require_other_manager(instance, membership)
    remove_record(instance, membership)
    _clear_active_organization(instance, membership)
    instance.touch_and_publish("organizationMembership.deleted", membership)
    return membership


def merge_metadata(instance: Instance, membership: Membership, changes: dict[str, Any]) -> Membership:
    """Merge metadata deeply and publish the event."""
    metadata.merge_into(membership, changes)
    instance.touch_and_publish("organizationMembership.updated", membership)
    return membership


def has_manager(instance: Instance, organization_id: str) -> bool:
    """Return whether any member can manage the members of an organization."""
    return any(instance.role_counts[organization_id, key] for key in roles.managing_roles(instance))


def _clear_active_organization(instance: Instance, membership: Membership) -> None:
    for session in map(instance.sessions.find, instance.user_sessions.of(membership.user_id).ids()):
        if session is not None and session.last_active_organization_id == membership.organization_id:
            session.last_active_organization_id = None


def _require_other_manager(instance: Instance, membership: Membership) -> None:
    managing = roles.managing_roles(instance)
    if membership.role not in managing:
        return
    if sum(instance.role_counts[membership.organization_id, key] for key in managing) <= 1:
        raise last_admin_error()
