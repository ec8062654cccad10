"""The desk: directories (SCIM), and what an identity provider does by them."""

from typing import Any

from starlette.requests import Request

from clerk_emulator.control import door
from clerk_emulator.control.desk import Desk
from clerk_emulator.state import directories, emails, organizations, users
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import Directory
from clerk_emulator.state.model import User
from clerk_emulator.state.refusals import NotEmulated, Refused
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire import people

DEFAULT_NAME = "Directory"
TEXTS = ("user", "email_address", "first_name", "last_name", "external_id")


async def list_directories(desk: Desk, request: Request) -> Any:
    """List the directories."""
    return {"data": [_shape(desk.instance, row) for row in desk.instance.directories]}


async def add_directory(desk: Desk, request: Request) -> Any:
    """Add a directory: `{"name": "Okta"}`."""
    wish = _only(await door.object_(request), "name")
    name = wish.get("name", DEFAULT_NAME)
    if not isinstance(name, str) or not name:
        raise ValueError("name must be text")
    return _shape(desk.instance, directories.create(desk.instance, name))


async def change_directory(desk: Desk, request: Request) -> Any:
    """Enable or disable a directory: `{"enabled": false}`. Disabled, it manages nobody, and nobody is deprovisioned."""
    wish = _only(await door.object_(request), "enabled")
    found = _directory(desk, request)
    if not isinstance(wish.get("enabled"), bool):
        raise ValueError("enabled must be true or false")
    directories.set_enabled(desk.instance, found, wish["enabled"])
    return _shape(desk.instance, found)


async def remove_directory(desk: Desk, request: Request) -> Any:
    """Delete a directory; its users stay, unmanaged and active."""
    directories.delete(desk.instance, _directory(desk, request))
    return {"ok": True}


async def provision(desk: Desk, request: Request) -> Any:
    """Create or change a user by a directory: `{"user" | "email_address", "first_name"?, ..., "active"?: false}`.

    `user` is an id or an address; a user who exists is taken over. `active: false` sets `deprovisioned`, ends the
    sessions and sends `user.updated`; `true` takes it back.
    """
    wish = _only(await door.object_(request), *TEXTS, "active")
    found = _directory(desk, request)
    if any(not isinstance(wish.get(name), str | None) for name in TEXTS):
        raise ValueError(f"{', '.join(TEXTS)} must be text")
    if not isinstance(wish.get("active", True), bool):
        raise ValueError("active must be true or false")
    if wish.get("user") is not None:
        wish["user_id"] = _user(desk, wish.pop("user")).id
    elif not wish.get("email_address"):
        raise ValueError("give a user or an email_address")
    try:
        user = directories.provision(desk.instance, found, wish)
    except (Refused, NotEmulated) as refused:
        raise ValueError(_words(refused)) from refused
    return people.user(desk.instance, user)


async def assign_role(desk: Desk, request: Request) -> Any:
    """Give a user the role that a group of the directory maps to: `{"user", "organization", "role"}`."""
    wish = _only(await door.object_(request), "user", "organization", "role")
    found = _directory(desk, request)
    if not all(isinstance(wish.get(name), str) for name in ("user", "organization", "role")):
        raise ValueError("give user, organization and role")
    user = _user(desk, wish["user"])
    try:
        owner = organizations.get(desk.instance, wish["organization"])
        made = directories.assign_role(desk.instance, found, owner, user, wish["role"])
    except Refused as refused:
        raise ValueError(_words(refused)) from refused
    return shapes.membership(desk.instance, made)


async def deprovision(desk: Desk, request: Request) -> Any:
    """Deactivate a user by their directory; one without a directory is put into the first one, made if needed."""
    return people.user(desk.instance, set_active(desk, request.path_params["id"], False))


async def reprovision(desk: Desk, request: Request) -> Any:
    """Activate a user again by their directory."""
    return people.user(desk.instance, set_active(desk, request.path_params["id"], True))


def set_active(desk: Desk, reference: str, is_active: bool) -> User:
    """Activate or deactivate a user by their directory. LookupError: there is no such user."""
    one, user = desk.instance, _user(desk, reference)
    owner = one.directories.find(user.directory_id) or next(iter(one.directories), None)
    owner = owner or directories.create(one, DEFAULT_NAME)
    return directories.provision(one, owner, {"user_id": user.id, "active": is_active})


def _shape(instance: Instance, found: Directory) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.name,
        "enabled": found.enabled,
        "users": sorted(user.id for user in instance.users if user.directory_id == found.id),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def _directory(desk: Desk, request: Request) -> Directory:
    found = desk.instance.directories.find(request.path_params["id"])
    if found is None:
        raise door.NotThere("directory")
    return found


def _user(desk: Desk, reference: str) -> User:
    try:
        return users.get(desk.instance, reference)
    except Refused:
        found = emails.find_owner(desk.instance, reference)
    if found is None:
        raise door.NotThere("user")
    return found


def _only(wish: dict[str, Any], *known: str) -> dict[str, Any]:
    unknown = sorted(set(wish) - set(known))
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return wish


def _words(refused: Exception) -> str:
    return refused.problems[0].long_message if isinstance(refused, Refused) else str(refused)
