"""The whole state as plain values, and back."""

from dataclasses import asdict, fields
from typing import Any, TypeVar

from clerk_emulator.state import (
    invitations,
    memberships,
    organization_invitations,
    organizations,
    sessions,
    users,
)
from clerk_emulator.state.instance import Instance, Settings
from clerk_emulator.state.model import (
    Client,
    EmailAddress,
    Invitation,
    Membership,
    Organization,
    OrganizationInvitation,
    Permission,
    Role,
    Session,
    User,
)

T = TypeVar("T")


def dump(instance: Instance) -> dict[str, Any]:
    """Return everything an instance knows."""
    return {
        "id": instance.id,
        "clock": instance.clock.dump(),
        "settings": asdict(instance.settings),
        "permissions": [_plain(row) for row in instance.permissions.values()],
        "roles": [_plain(row) for row in instance.roles.values()],
        "users": [
            {**_plain(row), "email_addresses": [_plain(email) for email in row.email_addresses]}
            for row in instance.users
        ],
        "organizations": [_plain(row) for row in instance.organizations],
        "memberships": [_plain(row) for row in instance.memberships],
        "organization_invitations": [_plain(row) for row in instance.organization_invitations],
        "invitations": [_plain(row) for row in instance.invitations],
        "clients": [_plain(row) for row in instance.clients.values()],
        "sessions": [_plain(row) for row in instance.sessions],
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
        users.restore(instance, User(**{**row, "email_addresses": addresses}))
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


def _plain(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
