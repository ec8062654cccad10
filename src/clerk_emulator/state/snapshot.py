"""Dump the whole state as plain values, and load it."""

from dataclasses import asdict, fields
from typing import Any

from clerk_emulator.state import (
    invitations,
    memberships,
    organization_invitations,
    organizations,
    role_sets,
    sessions,
    users,
)
from clerk_emulator.state.auth_attempts import Reverification, SignIn, SignUp
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import (
    AccessListEntry,
    Client,
    Directory,
    EmailAddress,
    Invitation,
    IssuedKey,
    JwtTemplate,
    Machine,
    MailMessage,
    Membership,
    Organization,
    OrganizationDomain,
    OrganizationInvitation,
    OrganizationSuggestion,
    Permission,
    PhoneNumber,
    RedirectUrl,
    Role,
    RoleSet,
    Session,
    SignInToken,
    User,
    Verification,
    WaitlistEntry,
)
from clerk_emulator.state.settings import Settings

TABLE_RECORDS: dict[str, Any] = {
    "role_sets": RoleSet,
    "organization_domains": OrganizationDomain,
    "organization_suggestions": OrganizationSuggestion,
    "allowlist": AccessListEntry,
    "blocklist": AccessListEntry,
    "redirect_urls": RedirectUrl,
    "jwt_templates": JwtTemplate,
    "sign_in_tokens": SignInToken,
    "actor_tokens": SignInToken,
    "waitlist": WaitlistEntry,
    "directories": Directory,
    "machines": Machine,
    "machine_tokens": IssuedKey,
    "api_keys": IssuedKey,
    "mail": MailMessage,
    "sign_ins": SignIn,
    "sign_ups": SignUp,
    "reverifications": Reverification,
}


def dump(instance: Instance) -> dict[str, Any]:
    """Return the whole state of an instance."""
    return {
        "id": instance.id,
        "clock": instance.clock.dump(),
        "settings": asdict(instance.settings),
        "permissions": [_to_plain(row) for row in instance.permissions.values()],
        "roles": [_to_plain(row) for row in instance.roles.values()],
        "users": [_load_user(row) for row in instance.users],
        "organizations": [_to_plain(row) for row in instance.organizations],
        "memberships": [_to_plain(row) for row in instance.memberships],
        "organization_invitations": [_to_plain(row) for row in instance.organization_invitations],
        "invitations": [_to_plain(row) for row in instance.invitations],
        "clients": [_to_plain(row) for row in instance.clients.values()],
        "sessions": [_to_plain(row) for row in instance.sessions],
        "verifications": [_to_plain(row) for row in instance.verifications.values()],
        "images": {name: list(image) for name, image in instance.images.items()},
        **{name: [_to_plain(row) for row in getattr(instance, name)] for name in TABLE_RECORDS},
    }


def load(instance: Instance, data: dict[str, Any]) -> None:
    """Load the result of `dump()` into an instance, without events."""
    instance.clear()
    instance.id = data["id"]
    instance.clock.load(data["clock"])
    instance.settings = Settings(**data["settings"])
    instance.permissions = {row["key"]: Permission(**row) for row in data["permissions"]}
    instance.roles = {row["key"]: Role(**row) for row in data["roles"]}
    for row in data["users"]:
        addresses = [EmailAddress(**email) for email in row["email_addresses"]]
        numbers = [PhoneNumber(**phone) for phone in row.get("phone_numbers", [])]
        users.insert_record(instance, User(**{**row, "email_addresses": addresses, "phone_numbers": numbers}))
    for row in data["organizations"]:
        organizations.insert_record(instance, Organization(**row))
    for row in data["memberships"]:
        memberships.insert_record(instance, Membership(**row))
    for row in data["organization_invitations"]:
        organization_invitations.insert_record(instance, OrganizationInvitation(**row))
    for row in data["invitations"]:
        invitations.insert_record(instance, Invitation(**row))
    for row in data["clients"]:
        sessions.insert_client(instance, Client(**row))
    for row in data["sessions"]:
        sessions.insert_record(instance, Session(**row))
    _load_tables(instance, data)


def _load_tables(instance: Instance, data: dict[str, Any]) -> None:
    instance.verifications = {row["id"]: Verification(**row) for row in data.get("verifications", [])}
    instance.images = {name: (image[0], image[1]) for name, image in data.get("images", {}).items()}
    for name, kind in TABLE_RECORDS.items():
        for row in data.get(name, []):
            getattr(instance, name).add(kind(**row))
    for token in (*instance.sign_in_tokens, *instance.actor_tokens):
        instance.tickets[token.ticket] = token.id
    if not len(instance.role_sets):
        role_sets.create_initial(instance)


def _load_user(row: User) -> dict[str, Any]:
    addresses = [_to_plain(email) for email in row.email_addresses]
    numbers = [_to_plain(phone) for phone in row.phone_numbers]
    return {**_to_plain(row), "email_addresses": addresses, "phone_numbers": numbers}


def _to_plain(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
