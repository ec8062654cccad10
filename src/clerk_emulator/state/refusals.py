"""What Clerk refuses: status, code and words, raised by the laws and answered as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of the list of errors in an answer."""

    code: str
    message: str
    long_message: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """A definite no. It has one status and one problem or more."""

    def __init__(self, status: int, *problems: Problem) -> None:
        super().__init__(status, *problems)
        self.status = status
        self.problems = problems


class NotEmulated(Exception):
    """Clerk could do this and the emulator can't: answered with `not_emulated()`, never with an invention."""


def not_emulated(words: str, operation: str | None = None) -> Refused:
    """400: Clerk has this and the emulator does not.

    No status of 500 and more: clients try those again, clerk-backend-api for an hour.
    """
    meta = {"operationId": operation} if operation else {}
    return Refused(400, Problem("emulator_not_implemented", "not emulated", words, meta))


def missing_resource(what: str, identifier: str, **meta: Any) -> Refused:
    """404: there is no such thing."""
    return Refused(404, Problem("resource_not_found", f"{what} not found", f"There is no {what} {identifier}.", meta))


def bad_parameter(code: str, name: str, words: str) -> Problem:
    """One problem with one parameter of a request."""
    return Problem(code, f"{name}: {words}", f"The parameter {name} {words}.", {"param_name": name})


def bad_field(code: str, name: str, words: str) -> Refused:
    """422: what a person typed into a field is wrong; the words are for that person."""
    return Refused(422, Problem(code, words, words, {"param_name": name}))


def bad_value(name: str, words: str = "has a value that is not allowed") -> Refused:
    """422: the value of a parameter can't be."""
    return Refused(422, bad_parameter("form_param_value_invalid", name, words))


def bad_format(name: str, words: str) -> Refused:
    """422: the form of a parameter is wrong."""
    return Refused(422, bad_parameter("form_param_format_invalid", name, words))


def identifier_exists(name: str, words: str = "is taken, try another") -> Refused:
    """422: an identifier belongs to somebody already."""
    return Refused(422, bad_parameter("form_identifier_exists", name, words))


def unverified(name: str) -> Refused:
    """422: only a verified identification will do."""
    return Refused(422, bad_parameter("form_verification_needed", name, "has to be verified first"))


def already_member(who: str) -> Refused:
    """400: a member can't be made a member again."""
    return Refused(
        400, Problem("already_a_member_in_organization", "already a member", f"{who} belongs to it already.")
    )


def duplicate_organization_invitation() -> Refused:
    """400: the address has a pending invitation to this organization."""
    words = "The address has a pending invitation to this organization."
    return Refused(400, Problem("organization_invitation_not_unique", "already invited", words))


def invitation_not_pending() -> Refused:
    """404: the organization invitation is accepted, revoked or expired."""
    words = "Only a pending organization invitation can be revoked."
    return Refused(404, Problem("organization_invitation_not_pending", "not pending", words))


def quota_exceeded(limit: int) -> Refused:
    """403: members and pending invitations fill the organization."""
    words = f"The organization is full: at most {limit} memberships, pending invitations counted."
    return Refused(403, Problem("organization_membership_quota_exceeded", "organization is full", words))


def last_admin() -> Refused:
    """400: somebody has to be able to manage the organization."""
    words = "Somebody has to be left who may manage the organization."
    return Refused(400, Problem("organization_minimum_permissions_needed", "last administrator", words))


def not_a_member() -> Refused:
    """403: the one in whose name this is asked does not belong to the organization."""
    words = "The acting user does not belong to this organization."
    return Refused(403, Problem("not_a_member_in_organization", "not a member", words))


def organization_hidden() -> Refused:
    """404: there is no such organization, or the one who asks does not belong to it; which, is not told."""
    words = "There is no such organization, or it is not one of yours."
    return Refused(404, Problem("organization_not_found_or_unauthorized", "not found or unauthorized", words))


def missing_permission(*permissions: str) -> Refused:
    """403: the one in whose name this is asked may not."""
    words = "The acting user's role lacks a permission for this."
    meta = {"permissions": list(permissions)}
    return Refused(403, Problem("missing_organization_permission", "missing permission", words, meta))


def role_not_found(key: str) -> Refused:
    """404: no such role."""
    return missing_resource("organization role", key, param_name="role")
