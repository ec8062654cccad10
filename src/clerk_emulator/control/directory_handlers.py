"""Control API handlers: SCIM directories and provisioning."""

from typing import Any

from starlette.requests import Request

from clerk_emulator.control import http
from clerk_emulator.control.service import ControlService
from clerk_emulator.state import directories, emails, organizations, users
from clerk_emulator.state.errors import ApiError, NotEmulatedError
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Directory, User
from clerk_emulator.wire import organization_json, user_json

DEFAULT_DIRECTORY_NAME = "Directory"
STRING_FIELDS = ("user", "email_address", "first_name", "last_name", "external_id")


async def list_directories(desk: ControlService, request: Request) -> Any:
    """List the directories."""
    return {"data": [_directory_json(desk.instance, row) for row in desk.instance.directories]}


async def add_directory(desk: ControlService, request: Request) -> Any:
    """Add a directory: `{"name": "Okta"}`."""
    wish = _check_fields(await http.read_json_object(request), "name")
    name = wish.get("name", DEFAULT_DIRECTORY_NAME)
    if not isinstance(name, str) or not name:
        raise ValueError("name must be text")
    return _directory_json(desk.instance, directories.create(desk.instance, name))


async def update_directory(desk: ControlService, request: Request) -> Any:
    """Enable or disable a directory: `{"enabled": false}`. Disabled, it manages nobody, and nobody is deprovisioned."""
    wish = _check_fields(await http.read_json_object(request), "enabled")
    found = _get_directory(desk, request)
    if not isinstance(wish.get("enabled"), bool):
        raise ValueError("enabled must be true or false")
    directories.set_enabled(desk.instance, found, wish["enabled"])
    return _directory_json(desk.instance, found)


async def delete_directory(desk: ControlService, request: Request) -> Any:
    """Delete a directory; its users stay, unmanaged and active."""
    directories.delete(desk.instance, _get_directory(desk, request))
    return {"ok": True}


async def provision_user(desk: ControlService, request: Request) -> Any:
    """Create or change a user by a directory: `{"user" | "email_address", "first_name"?, ..., "active"?: false}`.

    `user` is an id or an address; a user who exists is taken over. `active: false` sets `deprovisioned`, ends the
    sessions and sends `user.updated`; `true` takes it back.
    """
    wish = _check_fields(await http.read_json_object(request), *STRING_FIELDS, "active")
    found = _get_directory(desk, request)
    if any(not isinstance(wish.get(name), str | None) for name in STRING_FIELDS):
        raise ValueError(f"{', '.join(STRING_FIELDS)} must be text")
    if not isinstance(wish.get("active", True), bool):
        raise ValueError("active must be true or false")
    if wish.get("user") is not None:
        wish["user_id"] = _get_user(desk, wish.pop("user")).id
    elif not wish.get("email_address"):
        raise ValueError("give a user or an email_address")
    try:
        user = directories.provision(desk.instance, found, wish)
    except (ApiError, NotEmulatedError) as refused:
        raise ValueError(_error_message(refused)) from refused
    return user_json.user(desk.instance, user)


async def assign_role(desk: ControlService, request: Request) -> Any:
    """Give a user the role that a group of the directory maps to: `{"user", "organization", "role"}`."""
    wish = _check_fields(await http.read_json_object(request), "user", "organization", "role")
    found = _get_directory(desk, request)
    if not all(isinstance(wish.get(name), str) for name in ("user", "organization", "role")):
        raise ValueError("give user, organization and role")
    user = _get_user(desk, wish["user"])
    try:
        owner = organizations.get(desk.instance, wish["organization"])
        made = directories.assign_role(desk.instance, found, owner, user, wish["role"])
    except ApiError as refused:
        raise ValueError(_error_message(refused)) from refused
    return organization_json.membership(desk.instance, made)


async def deprovision_user(desk: ControlService, request: Request) -> Any:
    """Deactivate a user by their directory; one without a directory is put into the first one, made if needed."""
    return user_json.user(desk.instance, set_user_active(desk, request.path_params["id"], False))


async def reprovision_user(desk: ControlService, request: Request) -> Any:
    """Activate a user again by their directory."""
    return user_json.user(desk.instance, set_user_active(desk, request.path_params["id"], True))


def set_user_active(desk: ControlService, reference: str, is_active: bool) -> User:
    """Activate or deactivate a user by their directory. LookupError: there is no such user."""
    one, user = desk.instance, _get_user(desk, reference)
    owner = one.directories.find(user.directory_id) or next(iter(one.directories), None)
    owner = owner or directories.create(one, DEFAULT_DIRECTORY_NAME)
    return directories.provision(one, owner, {"user_id": user.id, "active": is_active})


def _directory_json(instance: Instance, found: Directory) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.name,
        "enabled": found.enabled,
        "users": sorted(user.id for user in instance.users if user.directory_id == found.id),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def _get_directory(desk: ControlService, request: Request) -> Directory:
    found = desk.instance.directories.find(request.path_params["id"])
    if found is None:
        raise http.NotFoundError("directory")
    return found


def _get_user(desk: ControlService, reference: str) -> User:
    try:
        return users.get(desk.instance, reference)
    except ApiError:
        found = emails.find_owner(desk.instance, reference)
    if found is None:
        raise http.NotFoundError("user")
    return found


def _check_fields(wish: dict[str, Any], *known: str) -> dict[str, Any]:
    unknown = sorted(set(wish) - set(known))
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return wish


def _error_message(refused: Exception) -> str:
    return refused.problems[0].long_message if isinstance(refused, ApiError) else str(refused)
