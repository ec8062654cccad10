"""The whole state as plain values, and back."""

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
from clerk_emulator.state.attempts import Reverification, SignIn, SignUp
from clerk_emulator.state.instance import Instance, Settings
from clerk_emulator.state.kinds import (
    Directory,
    IssuedKey,
    JwtTemplate,
    ListedIdentifier,
    Machine,
    Mail,
    OrganizationDomain,
    OrganizationSuggestion,
    RedirectUrl,
    RoleSet,
    SignInToken,
    WaitlistEntry,
)
from clerk_emulator.state.model import (
    Client,
    EmailAddress,
    Invitation,
    Membership,
    Organization,
    OrganizationInvitation,
    Permission,
    PhoneNumber,
    Role,
    Session,
    User,
    Verification,
)

SMALL: dict[str, Any] = {
    "role_sets": RoleSet,
    "organization_domains": OrganizationDomain,
    "organization_suggestions": OrganizationSuggestion,
    "allowlist": ListedIdentifier,
    "blocklist": ListedIdentifier,
    "redirect_urls": RedirectUrl,
    "jwt_templates": JwtTemplate,
    "sign_in_tokens": SignInToken,
    "actor_tokens": SignInToken,
    "waitlist": WaitlistEntry,
    "directories": Directory,
    "machines": Machine,
    "machine_tokens": IssuedKey,
    "api_keys": IssuedKey,
    "mail": Mail,
    "sign_ins": SignIn,
    "sign_ups": SignUp,
    "reverifications": Reverification,
}


def dump(instance: Instance) -> dict[str, Any]:
    """Return everything an instance knows."""
    return {
        "id": instance.id,
        "clock": instance.clock.dump(),
        "settings": asdict(instance.settings),
        "permissions": [_plain(row) for row in instance.permissions.values()],
        "roles": [_plain(row) for row in instance.roles.values()],
        "users": [_user(row) for row in instance.users],
        "organizations": [_plain(row) for row in instance.organizations],
        "memberships": [_plain(row) for row in instance.memberships],
        "organization_invitations": [_plain(row) for row in instance.organization_invitations],
        "invitations": [_plain(row) for row in instance.invitations],
        "clients": [_plain(row) for row in instance.clients.values()],
        "sessions": [_plain(row) for row in instance.sessions],
        "verifications": [_plain(row) for row in instance.verifications.values()],
        "images": {name: list(image) for name, image in instance.images.items()},
        **{name: [_plain(row) for row in getattr(instance, name)] for name in SMALL},
    }


def load(instance: Instance, data: dict[str, Any]) -> None:
    """Make an instance know exactly what `dump()` returned; nobody is told."""
    instance.clear()
    instance.id = data["id"]
    instance.clock.load(data["clock"])
    instance.settings = Settings(**data["settings"])
    instance.permissions = {row["key"]: Permission(**row) for row in data["permissions"]}
    instance.roles = {row["key"]: Role(**row) for row in data["roles"]}
    for row in data["users"]:
        addresses = [EmailAddress(**email) for email in row["email_addresses"]]
        numbers = [PhoneNumber(**phone) for phone in row.get("phone_numbers", [])]
        users.restore(instance, User(**{**row, "email_addresses": addresses, "phone_numbers": numbers}))
    for row in data["organizations"]:
        organizations.restore(instance, Organization(**row))
    for row in data["memberships"]:
        memberships.restore(instance, Membership(**row))
    for row in data["organization_invitations"]:
        organization_invitations.restore(instance, OrganizationInvitation(**row))
    for row in data["invitations"]:
        invitations.restore(instance, Invitation(**row))
    for row in data["clients"]:
        sessions.restore_client(instance, Client(**row))
    for row in data["sessions"]:
        sessions.restore(instance, Session(**row))
    _load_small(instance, data)


def _load_small(instance: Instance, data: dict[str, Any]) -> None:
    instance.verifications = {row["id"]: Verification(**row) for row in data.get("verifications", [])}
    instance.images = {name: (image[0], image[1]) for name, image in data.get("images", {}).items()}
    for name, kind in SMALL.items():
        for row in data.get(name, []):
            getattr(instance, name).add(kind(**row))
    for token in (*instance.sign_in_tokens, *instance.actor_tokens):
        instance.tickets[token.ticket] = token.id
    if not len(instance.role_sets):
        role_sets.furnish(instance)


def _user(row: User) -> dict[str, Any]:
    addresses = [_plain(email) for email in row.email_addresses]
    numbers = [_plain(phone) for phone in row.phone_numbers]
    return {**_plain(row), "email_addresses": addresses, "phone_numbers": numbers}


def _plain(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
