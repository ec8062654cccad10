"""Seeding: people, organizations and invitations from a small JSON form.

    {
      "settings": {"max_allowed_memberships": 100},
      "directories": [{"id": "...", "name": "Okta"}],
      "roles": [{"key": "org:clerk", "name": "Clerk", "permissions": ["org:files:read"]},
                {"key": "admin", "replaces": "org:admin"}, {"key": "basic_member", "replaces": "org:member"}],
      "users": [{"id": "user_...", "email_address": "a@example.com", "password": "...", "first_name": "...",
                 "created_at": "-30d", "last_active_at": "-2h", "banned": false,
                 "directory": DIRECTORY, "deprovisioned": false, ...}],
      "organizations": [{"id": "org_...", "name": "...", "created_by": USER, "created_at": "-60d",
                         "members": [{"user": USER, "role": "org:admin", "created_at": "-10d"}],
                         "invitations": [{"email_address": "b@example.com", "role": "org:member",
                                          "inviter": USER, "created_at": "-29d", "expires_at": "+40h",
                                          "status": "pending"}]}],
      "invitations": [{"email_address": "c@example.com", "public_metadata": {}}],
      "endpoints": [{"url": "http://127.0.0.1:8000/webhooks/clerk", "secret": "whsec_..."}],
      "events": false
    }

Everything is optional. USER is an id or an e-mail address of a user, DIRECTORY an id or a
name. Ids that are left out are made. Times are
milliseconds, RFC 3339, `now`, or offsets such as `-3d` and `+36h`. Quotas don't hold for seeds, and webhooks
are sent only where `events` is true. A seed is taken whole or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clerk_emulator.control import moments
from clerk_emulator.state import (
    directories,
    emails,
    invitations,
    memberships,
    metadata,
    organization_invitations,
    organizations,
    roles,
    snapshot,
    users,
)
from clerk_emulator.state.instance import ROLE_SETTINGS, Instance
from clerk_emulator.state.kinds import Directory
from clerk_emulator.state.model import Organization, OrganizationInvitation, User
from clerk_emulator.state.refusals import NotEmulated, Refused

TOP = {"settings", "directories", "roles", "users", "organizations", "invitations", "endpoints", "events"}
TIMES = ("created_at", "updated_at", "expires_at", "last_sign_in_at", "last_active_at", "legal_accepted_at")
TEXTS = {
    "id",
    "email_address",
    "username",
    "external_id",
    "first_name",
    "last_name",
    "password",
    "name",
    "slug",
    "role",
}
METADATA = {"public_metadata", "private_metadata"}
USER = METADATA | {
    "unsafe_metadata",
    "id",
    "email_address",
    "email_addresses",
    "external_id",
    "username",
    "first_name",
    "last_name",
    "locale",
    "password",
    "banned",
    "locked",
    "directory",
    "deprovisioned",
    "created_at",
    "updated_at",
    "last_sign_in_at",
    "last_active_at",
    "legal_accepted_at",
    "delete_self_enabled",
    "create_organization_enabled",
    "create_organizations_limit",
}
ROLE = {"key", "name", "permissions", "replaces"}
ORGANIZATION = METADATA | {
    "id",
    "name",
    "slug",
    "created_by",
    "created_at",
    "updated_at",
    "max_allowed_memberships",
    "members",
    "invitations",
}
MEMBER = METADATA | {"id", "user", "role", "created_at", "updated_at"}
INVITATION = METADATA | {
    "id",
    "email_address",
    "role",
    "inviter",
    "redirect_url",
    "created_at",
    "updated_at",
    "expires_at",
    "expires_in_days",
    "status",
}


class BadSeed(ValueError):
    """A seed that can't be taken; the message names the place."""


def sow(instance: Instance, seed: Any) -> dict[str, int]:
    """Take a seed and return how many of each there are in it."""
    if not isinstance(seed, dict):
        raise BadSeed("a seed is a JSON object")
    _require_known("seed", seed, TOP)
    before = snapshot.dump(instance)
    listener = instance.listener
    if not seed.get("events"):
        instance.listener = lambda happening: None
    try:
        _sow(instance, seed)
    except BaseException:
        snapshot.load(instance, before)
        raise
    finally:
        instance.listener = listener
    return {name: len(seed[name]) for name in sorted(TOP) if isinstance(seed.get(name), list)}


def _sow(instance: Instance, seed: dict[str, Any]) -> None:
    _set_settings(instance, seed.get("settings") or {})
    for place, wish in _items(seed, "roles", ROLE):
        with _at(place):
            _sow_role(instance, wish)
    with _at("settings"):
        chosen = seed.get("settings") or {}
        roles.set_defaults(instance, {name: chosen[name] for name in ROLE_SETTINGS if name in chosen})
    for place, wish in _items(seed, "directories", {"id", "name"}):
        with _at(place):
            directories.create(instance, wish["name"], wish.get("id"))
    for place, wish in _items(seed, "users", USER):
        with _at(place):
            _sow_user(instance, _timed(instance, wish))
    for place, wish in _items(seed, "organizations", ORGANIZATION):
        with _at(place):
            organization = _sow_organization(instance, _timed(instance, wish))
        _sow_below(instance, organization, wish, place)
    for place, wish in _items(seed, "invitations", INVITATION):
        with _at(place):
            made = invitations.create_all(instance, [{**_timed(instance, wish), "ignore_existing": True}])[0]
            made.settled = None if wish.get("status") in (None, "pending") else wish["status"]


def _sow_role(instance: Instance, wish: dict[str, Any]) -> None:
    key, permissions = wish["key"], wish.get("permissions")
    known = set(instance.permissions)
    if wish.get("replaces") is not None:
        role = roles.replace(instance, wish["replaces"], key, name=wish.get("name"), permissions=permissions)
    else:
        role = roles.put(instance, key, wish.get("name") or key, permissions or [])
    for new in [one for one in instance.permissions.values() if one.key not in known]:
        instance.tell("permission.created", new)
    instance.tell("role.updated" if wish.get("replaces") is not None else "role.created", role)


def _sow_below(instance: Instance, organization: Organization, wish: dict[str, Any], place: str) -> None:
    for inner, member in _items(wish, "members", MEMBER, place):
        with _at(inner):
            _sow_member(instance, organization, _timed(instance, member))
    for inner, invitation in _items(wish, "invitations", INVITATION, place):
        with _at(inner):
            _sow_invitation(instance, organization, _timed(instance, invitation))


def _sow_user(instance: Instance, wish: dict[str, Any]) -> None:
    addresses = wish.get("email_addresses") or [wish.get("email_address")]
    draft = {**wish, "email_address": [one for one in addresses if one], "skip_password_checks": True}
    found = _directory(instance, wish)
    link = (found.id, wish.get("external_id")) if found else (None, None)
    made = users.create(instance, draft, strategy="scim" if found else "admin", directory=link)
    made.deprovisioned = bool(wish.get("deprovisioned"))


def _directory(instance: Instance, wish: dict[str, Any]) -> Directory | None:
    wanted = wish.get("directory")
    found = next((row for row in instance.directories if wanted in (row.id, row.name)), None)
    if found is None and wanted is not None:
        raise BadSeed(f"there is no directory {wanted!r}")
    if found is None and wish.get("deprovisioned"):
        raise BadSeed("deprovisioned is set by a directory; name one")
    return found


def _sow_organization(instance: Instance, wish: dict[str, Any]) -> Organization:
    creator = wish.get("created_by")
    is_listed = any(_is(instance, member.get("user"), creator) for member in wish.get("members") or [])
    creator_id = _user(instance, creator).id if creator else None
    return organizations.create(instance, {**wish, "created_by": creator_id, "creator_joins": not is_listed})


def _sow_member(instance: Instance, organization: Organization, wish: dict[str, Any]) -> None:
    user = _user(instance, wish.get("user"))
    role = roles.get(instance, wish.get("role") or instance.settings.default_role)
    if memberships.find(instance, organization.id, user.id) is not None:
        raise BadSeed("is a member already")
    memberships.join(instance, organization, user, role.key, wish)


def _sow_invitation(instance: Instance, organization: Organization, wish: dict[str, Any]) -> None:
    role = roles.get(instance, wish.get("role") or instance.settings.default_role)
    inviter = _user(instance, wish["inviter"]).id if wish.get("inviter") else None
    is_sent = wish.get("status") in (None, "pending")
    draft = {**wish, "role": role.key, "inviter_user_id": inviter, "notify": is_sent}
    if wish.get("status") == "expired":
        draft["expires_at"] = min(wish.get("expires_at", instance.now), instance.now)
    limit, organization.max_allowed_memberships = organization.max_allowed_memberships, 0
    try:
        invitation = organization_invitations.create(instance, organization, draft)
    finally:
        organization.max_allowed_memberships = limit
    _settle(instance, invitation, wish.get("status") or "pending")


def _settle(instance: Instance, invitation: OrganizationInvitation, status: str) -> None:
    if status in ("accepted", "revoked"):
        organization_invitations.settle(instance, invitation, status)
        owner = emails.find_owner(instance, invitation.email_address) if status == "accepted" else None
        invitation.user_id = owner.id if owner else None
        instance.tell(f"organizationInvitation.{status}", invitation)
    elif status not in ("pending", "expired"):
        raise BadSeed("status must be pending, accepted, revoked or expired")


def _set_settings(instance: Instance, wish: Any) -> None:
    if not isinstance(wish, dict):
        raise BadSeed("settings must be an object")
    try:
        instance.settings.change(wish)
    except ValueError as wrong:
        raise BadSeed(f"settings.{wrong}") from wrong


def _user(instance: Instance, reference: Any) -> User:
    found = instance.users.find(reference) if isinstance(reference, str) else None
    found = found or (emails.find_owner(instance, reference) if isinstance(reference, str) else None)
    if found is None:
        raise BadSeed(f"there is no user {reference!r}")
    return found


def _is(instance: Instance, one: Any, other: Any) -> bool:
    return bool(one and other) and _user(instance, one) is _user(instance, other)


def _items(owner: dict[str, Any], name: str, known: set[str], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    place = f"{above}.{name}" if above else name
    items = [] if owner.get(name) is None else owner[name]
    if not isinstance(items, list):
        raise BadSeed(f"{place} must be a list")
    for number, item in enumerate(items):
        _require_known(f"{place}[{number}]", item, known)
        yield f"{place}[{number}]", item


def _timed(instance: Instance, wish: dict[str, Any]) -> dict[str, Any]:
    now = instance.now
    times = {name: moments.read(wish[name], now) for name in TIMES if wish.get(name) is not None}
    if "created_at" in times:
        times.setdefault("updated_at", times["created_at"])
    for name in TEXTS & set(wish):
        if not isinstance(wish[name], str | None):
            raise BadSeed(f"{name} must be text")
    for name in METADATA & set(wish):
        if not isinstance(wish[name], dict):
            raise BadSeed(f"{name} must be an object")
        metadata.check_size(name, wish[name])
    return {**wish, **times}


def _require_known(place: str, wish: Any, known: set[str]) -> None:
    if not isinstance(wish, dict):
        raise BadSeed(f"{place} must be an object")
    unknown = sorted(set(wish) - known)
    if unknown:
        raise BadSeed(f"{place}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")


@contextmanager
def _at(place: str) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise BadSeed(f"{place}: {refused.problems[0].long_message}") from refused
    except NotEmulated as missing:
        raise BadSeed(f"{place}: the emulator does not have {missing}") from missing
    except KeyError as missing:
        raise BadSeed(f"{place}: {missing.args[0]} is missing") from missing
    except (ValueError, TypeError, AttributeError) as wrong:
        raise BadSeed(f"{place}: {wrong}") from wrong
