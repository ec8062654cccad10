"""Payloads of webhook events."""

from collections.abc import Callable
from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import DomainEvent, Organization, OrganizationInvitation, Session, User
from clerk_emulator.wire import access_json, mail_json, organization_json, session_json, user_json

JsonObject = dict[str, Any]
EventSerializer = Callable[[Instance, Any, str], JsonObject]


def event_data(instance: Instance, domain_event: DomainEvent, site: str) -> JsonObject:
    """Return the data of an event with the current record."""
    return SERIALIZERS[domain_event.type](instance, domain_event.record, site)


def event_payload(instance: Instance, domain_event: DomainEvent, site: str, caller: tuple[str, str]) -> JsonObject:
    """Return the body of a webhook; `caller` is the address and user agent behind the change."""
    now = instance.now
    seconds = instance.settings.event_timestamps == "seconds"
    return {
        "data": event_data(instance, domain_event, site),
        "event_attributes": {"http_request": {"client_ip": caller[0], "user_agent": caller[1]}},
        "instance_id": instance.id,
        "object": "event",
        "timestamp": now // 1000 if seconds else now,
        "type": domain_event.type,
    }


def _user(instance: Instance, found: User, site: str) -> JsonObject:
    return {**user_json.user(instance, found), **user_json.scim(instance, found)}


def _user_deleted(instance: Instance, found: User, site: str) -> JsonObject:
    more = {"external_id": found.external_id} if found.external_id else {}
    return user_json.deleted_object("user", found.id, **more)


def _organization(instance: Instance, found: Organization, site: str) -> JsonObject:
    return organization_json.organization(instance, found, missing=True)


def _organization_deleted(instance: Instance, found: Organization, site: str) -> JsonObject:
    return user_json.deleted_object("organization", found.id, slug=found.slug)


def _membership(instance: Instance, found: Any, site: str) -> JsonObject:
    return organization_json.membership(instance, found)


def _accepted_invitation(instance: Instance, found: OrganizationInvitation, site: str) -> JsonObject:
    serializer = organization_json.with_public_organization(instance, found, site)
    public = serializer.pop("public_organization_data", None)
    return {**serializer, "user_id": found.user_id, "data": {"public_organization_data": public}}


def _session(instance: Instance, found: Session, site: str) -> JsonObject:
    person = instance.users.find(found.user_id)
    serializer = session_json.session(instance, found)
    return {**serializer, "user": user_json.user(instance, person)} if person else serializer


def _role(instance: Instance, found: Any, site: str) -> JsonObject:
    return organization_json.role(instance, found)


def _permission(instance: Instance, found: Any, site: str) -> JsonObject:
    return organization_json.permission(found)


def _domain(instance: Instance, found: Any, site: str) -> JsonObject:
    return access_json.organization_domain(instance, found)


def _deleted_object(object_: str) -> EventSerializer:
    return lambda instance, found, site: user_json.deleted_object(object_, found.id)


SERIALIZERS: dict[str, EventSerializer] = {
    "user.created": _user,
    "user.updated": _user,
    "user.deleted": _user_deleted,
    "organization.created": _organization,
    "organization.updated": _organization,
    "organization.deleted": _organization_deleted,
    "organizationMembership.created": _membership,
    "organizationMembership.updated": _membership,
    "organizationMembership.deleted": _membership,
    "organizationInvitation.created": organization_json.organization_invitation,
    "organizationInvitation.accepted": _accepted_invitation,
    "organizationInvitation.revoked": organization_json.organization_invitation,
    "session.created": _session,
    "session.ended": _session,
    "session.removed": _session,
    "session.revoked": _session,
    "role.created": _role,
    "role.updated": _role,
    "role.deleted": _deleted_object("role"),
    "permission.created": _permission,
    "permission.updated": _permission,
    "permission.deleted": _deleted_object("permission"),
    "organizationDomain.created": _domain,
    "organizationDomain.updated": _domain,
    "organizationDomain.deleted": _deleted_object("organization_domain"),
    "waitlistEntry.created": access_json.waitlist_entry,
    "waitlistEntry.updated": access_json.waitlist_entry,
    "email.created": mail_json.email,
    "sms.created": mail_json.sms,
}
EVENT_TYPES = tuple(SERIALIZERS)
