"""Errors of Clerk's APIs: status, code and messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """An entry of the error list in a response."""

    code: str
    message: str
    long_message: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


class ApiError(Exception):
    """An error response with a status and one or more problems."""

    def __init__(self, status: int, *problems: ErrorDetail) -> None:
        super().__init__(status, *problems)
        self.status = status
        self.problems = problems


class NotEmulatedError(Exception):
    """A feature of Clerk that the emulator lacks; the response is `not_emulated_error()`, never invented data."""


def not_emulated_error(message: str, operation: str | None = None) -> ApiError:
    """400: Clerk has this feature and the emulator does not.

    Not a 5xx status: clients retry those, clerk-backend-api for an hour.
    """
    meta = {"operationId": operation} if operation else {}
    return ApiError(400, ErrorDetail("emulator_not_implemented", "not emulated", message, meta))


def not_found_error(resource: str, identifier: str, **meta: Any) -> ApiError:
    """404: no such object."""
    return ApiError(
        404, ErrorDetail("resource_not_found", f"{resource} not found", f"There is no {resource} {identifier}.", meta)
    )


def parameter_detail(code: str, name: str, message: str) -> ErrorDetail:
    """A problem with a parameter of a request."""
    return ErrorDetail(code, f"{name}: {message}", f"The parameter {name} {message}.", {"param_name": name})


def field_error(code: str, name: str, message: str) -> ApiError:
    """422: invalid form field; the message is for the person who filled it in."""
    return ApiError(422, ErrorDetail(code, message, message, {"param_name": name}))


def invalid_value_error(name: str, message: str = "has a value that is not allowed") -> ApiError:
    """422: invalid value of a parameter."""
    return ApiError(422, parameter_detail("form_param_value_invalid", name, message))


def invalid_format_error(name: str, message: str) -> ApiError:
    """422: invalid format of a parameter."""
    return ApiError(422, parameter_detail("form_param_format_invalid", name, message))


def identifier_exists_error(name: str, message: str = "is taken, try another") -> ApiError:
    """422: another user has the identifier."""
    return ApiError(422, parameter_detail("form_identifier_exists", name, message))


def unverified_error(name: str) -> ApiError:
    """422: the identification has to be verified."""
    return ApiError(422, parameter_detail("form_verification_needed", name, "must be verified first"))


def already_member_error(member: str) -> ApiError:
    """400: the user is already a member."""
    return ApiError(
        400, ErrorDetail("already_a_member_in_organization", "already a member", f"{member} is already a member.")
    )


def duplicate_invitation_error() -> ApiError:
    """400: the address has a pending invitation to this organization."""
    message = "The address has a pending invitation to this organization."
    return ApiError(400, ErrorDetail("organization_invitation_not_unique", "already invited", message))


def invitation_not_pending_error() -> ApiError:
    """404: the organization invitation is accepted, revoked or expired."""
    message = "Only a pending organization invitation can be revoked."
    return ApiError(404, ErrorDetail("organization_invitation_not_pending", "not pending", message))


def quota_exceeded_error(limit: int) -> ApiError:
    """403: members and pending invitations have reached the limit of the organization."""
    message = f"The organization has reached its limit of {limit} memberships, including pending invitations."
    return ApiError(403, ErrorDetail("organization_membership_quota_exceeded", "organization is full", message))


def last_admin_error() -> ApiError:
    """400: the organization needs a member who can manage it."""
    message = "The organization needs at least one member who can manage it."
    return ApiError(400, ErrorDetail("organization_minimum_permissions_needed", "last administrator", message))


def not_a_member_error() -> ApiError:
    """403: the acting user is not a member of the organization."""
    message = "The acting user is not a member of this organization."
    return ApiError(403, ErrorDetail("not_a_member_in_organization", "not a member", message))


def organization_not_visible_error() -> ApiError:
    """404: the organization does not exist or the acting user is not a member; the response does not say which."""
    message = "There is no such organization, or you are not a member of it."
    return ApiError(404, ErrorDetail("organization_not_found_or_unauthorized", "not found or unauthorized", message))


def missing_permission_error(*permissions: str) -> ApiError:
    """403: the acting user lacks the permission."""
    message = "The acting user's role lacks the required permission."
    meta = {"permissions": list(permissions)}
    return ApiError(403, ErrorDetail("missing_organization_permission", "missing permission", message, meta))


def role_not_found_error(key: str) -> ApiError:
    """404: no such role."""
    return not_found_error("organization role", key, param_name="role")
