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


async def list_directories(control: ControlService, request: Request) -> Any:
    """List directories."""
    return {"data": [_directory_json(control.instance, row) for row in control.instance.directories]}


async def add_directory(control: ControlService, request: Request) -> Any:
    """Create a directory: `{"name": "Okta"}`."""
    body = _check_fields(await http.read_json_object(request), "name")
    name = body.get("name", DEFAULT_DIRECTORY_NAME)
    if not isinstance(name, str) or not name:
        raise ValueError("name must be a string")
    return _directory_json(control.instance, directories.create(control.instance, name))


async def update_directory(control: ControlService, request: Request) -> Any:
    """Enable or disable a directory: `{"enabled": false}`. While disabled it manages no users and deactivates none."""
    body = _check_fields(await http.read_json_object(request), "enabled")
    found = _get_directory(control, request)
    if not isinstance(body.get("enabled"), bool):
        raise ValueError("enabled must be true or false")
    directories.set_enabled(control.instance, found, body["enabled"])
    return _directory_json(control.instance, found)


async def delete_directory(control: ControlService, request: Request) -> Any:
    """Delete a directory. Its users stay active and are no longer managed."""
    directories.delete(control.instance, _get_directory(control, request))
    return {"ok": True}


async def provision_user(control: ControlService, request: Request) -> Any:
    """Create or update a user through a directory: `{"user" | "email_address", "first_name"?, ..., "active"?: false}`.

    `user` is an id or an address; the directory takes over an existing user. `active: false` sets `deprovisioned`, ends
    the sessions and sends `user.updated`; `true` reactivates the user.
    """
    body = _check_fields(await http.read_json_object(request), *STRING_FIELDS, "active")
    found = _get_directory(control, request)
    if any(not isinstance(body.get(name), str | None) for name in STRING_FIELDS):
        raise ValueError(f"{', '.join(STRING_FIELDS)} must be a string")
    if not isinstance(body.get("active", True), bool):
        raise ValueError("active must be true or false")
    if body.get("user") is not None:
        body["user_id"] = _get_user(control, body.pop("user")).id
    elif not body.get("email_address"):
        raise ValueError("give a user or an email_address")
    try:
        user = directories.provision(control.instance, found, body)
    except (ApiError, NotEmulatedError) as error:
        raise ValueError(_error_message(error)) from error
    return user_json.user(control.instance, user)


async def assign_role(control: ControlService, request: Request) -> Any:
    """Assign the role of a directory group to a user: `{"user", "organization", "role"}`."""
    body = _check_fields(await http.read_json_object(request), "user", "organization", "role")
    found = _get_directory(control, request)
    if not all(isinstance(body.get(name), str) for name in ("user", "organization", "role")):
        raise ValueError("give user, organization and role")
    user = _get_user(control, body["user"])
    try:
        owner = organizations.get(control.instance, body["organization"])
        membership = directories.assign_role(control.instance, found, owner, user, body["role"])
    except ApiError as error:
        raise ValueError(_error_message(error)) from error
    return organization_json.membership(control.instance, membership)


async def deprovision_user(control: ControlService, request: Request) -> Any:
    """Deactivate a user through their directory; a user without one joins the first one (created if needed)."""
    return user_json.user(control.instance, set_user_active(control, request.path_params["id"], False))


async def reprovision_user(control: ControlService, request: Request) -> Any:
    """Reactivate a user through their directory."""
    return user_json.user(control.instance, set_user_active(control, request.path_params["id"], True))


def set_user_active(control: ControlService, reference: str, is_active: bool) -> User:
    """Activate or deactivate a user through their directory. LookupError: there is no such user."""
    one, user = control.instance, _get_user(control, reference)
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


def _get_directory(control: ControlService, request: Request) -> Directory:
    found = control.instance.directories.find(request.path_params["id"])
    if found is None:
        raise http.NotFoundError("directory")
    return found


def _get_user(control: ControlService, reference: str) -> User:
    try:
        return users.get(control.instance, reference)
    except ApiError:
        found = emails.find_owner(control.instance, reference)
    if found is None:
        raise http.NotFoundError("user")
    return found


def _check_fields(body: dict[str, Any], *known: str) -> dict[str, Any]:
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return body


def _error_message(error: Exception) -> str:
    return error.problems[0].long_message if isinstance(error, ApiError) else str(error)
