"""Events as the data of a webhook."""

from collections.abc import Callable
from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Happening, Organization, OrganizationInvitation, Session, User
from clerk_emulator.wire import access, mail, organizations, people, sessions

Json = dict[str, Any]
Shape = Callable[[Instance, Any, str], Json]


def data_of(instance: Instance, happening: Happening, site: str) -> Json:
    """Return the data of an event, as the thing is now."""
    return SHAPES[happening.type](instance, happening.thing, site)


def envelope(instance: Instance, happening: Happening, site: str, caller: tuple[str, str]) -> Json:
    """Return the whole body of a webhook; `caller` is the address and user agent behind the change."""
    now = instance.now
    seconds = instance.settings.event_timestamps == "seconds"
    return {
        "data": data_of(instance, happening, site),
        "event_attributes": {"http_request": {"client_ip": caller[0], "user_agent": caller[1]}},
        "instance_id": instance.id,
        "object": "event",
        "timestamp": now // 1000 if seconds else now,
        "type": happening.type,
    }


def _user(instance: Instance, found: User, site: str) -> Json:
    return {**people.user(instance, found), **people.directory(instance, found)}


def _user_deleted(instance: Instance, found: User, site: str) -> Json:
    more = {"external_id": found.external_id} if found.external_id else {}
    return people.deleted("user", found.id, **more)


def _organization(instance: Instance, found: Organization, site: str) -> Json:
    return organizations.organization(instance, found, missing=True)


def _organization_deleted(instance: Instance, found: Organization, site: str) -> Json:
    return people.deleted("organization", found.id, slug=found.slug)


def _membership(instance: Instance, found: Any, site: str) -> Json:
    return organizations.membership(instance, found)


def _accepted(instance: Instance, found: OrganizationInvitation, site: str) -> Json:
    shape = organizations.with_public_organization(instance, found, site)
    public = shape.pop("public_organization_data", None)
    return {**shape, "user_id": found.user_id, "data": {"public_organization_data": public}}


def _session(instance: Instance, found: Session, site: str) -> Json:
    person = instance.users.find(found.user_id)
    shape = sessions.session(instance, found)
    return {**shape, "user": people.user(instance, person)} if person else shape


def _role(instance: Instance, found: Any, site: str) -> Json:
    return organizations.role(instance, found)


def _permission(instance: Instance, found: Any, site: str) -> Json:
    return organizations.permission(found)


def _domain(instance: Instance, found: Any, site: str) -> Json:
    return access.organization_domain(instance, found)


def _gone(object_: str) -> Shape:
    return lambda instance, found, site: people.deleted(object_, found.id)


SHAPES: dict[str, Shape] = {
    "user.created": _user,
    "user.updated": _user,
    "user.deleted": _user_deleted,
    "organization.created": _organization,
    "organization.updated": _organization,
    "organization.deleted": _organization_deleted,
    "organizationMembership.created": _membership,
    "organizationMembership.updated": _membership,
    "organizationMembership.deleted": _membership,
    "organizationInvitation.created": organizations.organization_invitation,
    "organizationInvitation.accepted": _accepted,
    "organizationInvitation.revoked": organizations.organization_invitation,
    "session.created": _session,
    "session.ended": _session,
    "session.removed": _session,
    "session.revoked": _session,
    "role.created": _role,
    "role.updated": _role,
    "role.deleted": _gone("role"),
    "permission.created": _permission,
    "permission.updated": _permission,
    "permission.deleted": _gone("permission"),
    "organizationDomain.created": _domain,
    "organizationDomain.updated": _domain,
    "organizationDomain.deleted": _gone("organization_domain"),
    "waitlistEntry.created": access.waitlist_entry,
    "waitlistEntry.updated": access.waitlist_entry,
    "email.created": mail.email,
    "sms.created": mail.sms,
}
TYPES = tuple(SHAPES)
