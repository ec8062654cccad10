"""Errors of Clerk's APIs: status, code and messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One entry of the list of errors in an answer."""

    code: str
    message: str
    long_message: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


class ApiError(Exception):
    """A definite no. It has one status and one problem or more."""

    def __init__(self, status: int, *problems: ErrorDetail) -> None:
        super().__init__(status, *problems)
        self.status = status
        self.problems = problems


class NotEmulatedError(Exception):
    """Clerk could do this and the emulator can't: answered with `not_emulated()`, never with an invention."""


def not_emulated_error(message: str, operation: str | None = None) -> ApiError:
    """400: Clerk has this and the emulator does not.

    No status of 500 and more: clients try those again, clerk-backend-api for an hour.
    """
    meta = {"operationId": operation} if operation else {}
    return ApiError(400, ErrorDetail("emulator_not_implemented", "not emulated", message, meta))


def not_found_error(resource: str, identifier: str, **meta: Any) -> ApiError:
    """404: there is no such thing."""
    return ApiError(
        404, ErrorDetail("resource_not_found", f"{resource} not found", f"There is no {resource} {identifier}.", meta)
    )


def parameter_detail(code: str, name: str, message: str) -> ErrorDetail:
    """One problem with one parameter of a request."""
    return ErrorDetail(code, f"{name}: {message}", f"The parameter {name} {message}.", {"param_name": name})


def field_error(code: str, name: str, message: str) -> ApiError:
    """422: what a person typed into a field is wrong; the words are for that person."""
    return ApiError(422, ErrorDetail(code, message, message, {"param_name": name}))


def invalid_value_error(name: str, message: str = "has a value that is not allowed") -> ApiError:
    """422: the value of a parameter can't be."""
    return ApiError(422, parameter_detail("form_param_value_invalid", name, message))


def invalid_format_error(name: str, message: str) -> ApiError:
    """422: the form of a parameter is wrong."""
    return ApiError(422, parameter_detail("form_param_format_invalid", name, message))


def identifier_exists_error(name: str, message: str = "is taken, try another") -> ApiError:
    """422: an identifier belongs to somebody already."""
    return ApiError(422, parameter_detail("form_identifier_exists", name, message))


def unverified_error(name: str) -> ApiError:
    """422: only a verified identification will do."""
    return ApiError(422, parameter_detail("form_verification_needed", name, "has to be verified first"))


def already_member_error(member: str) -> ApiError:
    """400: a member can't be made a member again."""
    return ApiError(
        400, ErrorDetail("already_a_member_in_organization", "already a member", f"{member} belongs to it already.")
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
    """403: members and pending invitations fill the organization."""
    message = f"The organization is full: at most {limit} memberships, pending invitations counted."
    return ApiError(403, ErrorDetail("organization_membership_quota_exceeded", "organization is full", message))


def last_admin_error() -> ApiError:
    """400: somebody has to be able to manage the organization."""
    message = "Somebody has to be left who may manage the organization."
    return ApiError(400, ErrorDetail("organization_minimum_permissions_needed", "last administrator", message))


def not_a_member_error() -> ApiError:
    """403: the one in whose name this is asked does not belong to the organization."""
    message = "The acting user does not belong to this organization."
    return ApiError(403, ErrorDetail("not_a_member_in_organization", "not a member", message))


def organization_not_visible_error() -> ApiError:
    """404: there is no such organization, or the one who asks does not belong to it; which, is not told."""
    message = "There is no such organization, or it is not one of yours."
    return ApiError(404, ErrorDetail("organization_not_found_or_unauthorized", "not found or unauthorized", message))


def missing_permission_error(*permissions: str) -> ApiError:
    """403: the one in whose name this is asked may not."""
    message = "The acting user's role lacks a permission for this."
    meta = {"permissions": list(permissions)}
    return ApiError(403, ErrorDetail("missing_organization_permission", "missing permission", message, meta))


def role_not_found_error(key: str) -> ApiError:
    """404: no such role."""
    return not_found_error("organization role", key, param_name="role")
