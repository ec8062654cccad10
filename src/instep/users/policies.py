"""Permission rules and validation of user changes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from instep.auth.principal import Principal, grants_instance_admin
from instep.core.i18n import lazy_gettext
from instep.domain import errors
from instep.domain.emails import canonicalize_email, validate_email_address
from instep.domain.errors import (
    CONFLICT,
    FORBIDDEN,
    INVALID,
    NOT_FOUND,
    UNAVAILABLE,
    ChangeRejectedError,
    ClerkRejectedError,
)
from instep.mirror.user_repository import UserRow
from instep.users.models import SharedOrganization, TargetUser, UserChanges, UserPermissions

SYNC_FAILED = lazy_gettext("Failed to sync with Clerk authentication system")
SYNC_FAILED_CODE = "clerk_sync_failed"
API_KEY_CANNOT_GRANT_RIGHTS = lazy_gettext(
    "An API key can't make instance admins, nor act on their accounts. Nothing was changed."
)
BANS_UNAVAILABLE = lazy_gettext("Your Clerk plan has no bans. Deactivated here, and signed out everywhere.")
PASSWORD_OUTCOME_UNKNOWN = "We do not know whether the password was changed; set it again."  # noqa: S105 (a sentence)
SELF_EDITABLE_FIELDS = frozenset({"first_name", "last_name"})
ADMIN_EDITABLE_FIELDS = SELF_EDITABLE_FIELDS | {"username"}
MAX_NAME_LENGTH = 256  # characters of a name
MAX_METADATA_BYTES = 8_192  # bytes, as Clerk has it
MAX_ATTRIBUTES_BYTES = 65_536  # bytes
VERIFICATION_CODE_ERRORS = frozenset({"wrong_code", "code_expired", "code_failed", "code_lost"})
_PASSED_THROUGH_CODES = frozenset({"managed_by_directory", "plan"})


def determine_permissions(
    principal: Principal, person_id: str, ties: Sequence[SharedOrganization], *, is_target_instance_admin: bool
) -> UserPermissions:
    """What a principal may do with a person. `is_above_all`: the person is an instance admin.

    An organization's admin is above its members, and no lower than its other admins; nobody there is above an
    instance admin.
    """
    led = () if is_target_instance_admin else (tie.organization_id for tie in ties if tie.is_admin)
    return UserPermissions(
        is_admin=principal.is_instance_admin,
        is_self=principal.user_id == person_id,
        shared=frozenset(tie.organization_id for tie in ties),
        led=frozenset(led),
    )


def require_instance_admin(rights: UserPermissions, doing: str) -> None:
    """Raises Refused unless the asker is an instance admin."""
    if not rights.is_admin:
        raise ChangeRejectedError(
            lazy_gettext("Only instance admins can %(doing)s.", doing=doing), code="forbidden", status=FORBIDDEN
        )


def require_not_self(rights: UserPermissions, doing: str) -> None:
    """Nobody locks themselves out."""
    if rights.is_self:
        raise ChangeRejectedError(
            lazy_gettext("You can't %(doing)s yourself.", doing=doing), code="yourself", status=CONFLICT
        )


def require_can_edit(rights: UserPermissions, fields: Collection[str]) -> None:
    """Raises Refused for the first of these fields that the asker may not change.

    Everyone changes their own names; an organization's admin the names and the username of those below them. Public
    metadata, attributes, addresses and passwords decide who someone is everywhere: instance admins only.
    """
    allowed = ADMIN_EDITABLE_FIELDS if rights.led else SELF_EDITABLE_FIELDS if rights.is_self else frozenset[str]()
    for field in sorted(set(fields) - allowed):
        if not rights.is_admin:
            words = "change this person" if not allowed else f"change {field.replace('_', ' ')}"
            raise ChangeRejectedError(
                lazy_gettext("You may not %(words)s.", words=words), code="forbidden", status=FORBIDDEN, field=field
            )


def require_api_key_allowed(
    principal: Principal, fields: Mapping[str, Any], *, is_target_instance_admin: bool, admins: Collection[str]
) -> None:
    """Raise Refused (403) where an API key would make an instance admin, or become one. People are not looked at.

    A key can be revoked; an admin whom it made, and the keys which that admin made, would outlive it. So a key gives
    and takes no rights by metadata, gives nobody an address that `admins` names, and touches neither the address, the
    password nor the standing (`account`) of an instance admin (`is_above_all`), through which it could sign in as one.
    """
    if principal.kind != "api_key":
        return
    metadata, email = fields.get("public_metadata"), fields.get("email")
    field = None
    if grants_instance_admin(metadata) or (
        is_target_instance_admin and isinstance(metadata, dict) and "role" in metadata
    ):
        field = "public_metadata"
    elif isinstance(email, str) and (is_target_instance_admin or canonicalize_email(email) in admins):
        field = "email"
    elif is_target_instance_admin and fields.keys() & {"password", "account"}:
        field = "password" if "password" in fields else None
    else:
        return
    raise ChangeRejectedError(API_KEY_CANNOT_GRANT_RIGHTS, code="rights_by_key", status=FORBIDDEN, field=field)


def make_user_not_found_error() -> ChangeRejectedError:
    """There is no such person, or not one whom the asker may know of."""
    return ChangeRejectedError("User not found.", code="user_not_found", status=NOT_FOUND)


def require_not_deleted(person: UserRow | None) -> UserRow:
    """Raises Refused for someone who is deleted."""
    if person is None:
        raise make_user_not_found_error()
    if person.is_deleted:
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is deleted. Restore them first.", name=person.name), code="deleted", status=CONFLICT
        )
    return person


def require_another_admin(sole: Mapping[str, str]) -> None:
    """The last-admin rule. `sole`: organizations in which this person is the only admin."""
    if sole:
        names = ", ".join(sorted(sole.values()))
        words = lazy_gettext("%(why)s (%(names)s)", why=errors.LAST_ADMIN_MESSAGE, names=names)
        raise ChangeRejectedError(words, code="last_admin", status=CONFLICT)


def validate_changes(edit: UserChanges) -> UserChanges:
    """An edit as it will be made. Raises Refused, before anything is tried, for what can't be."""
    names = {name: validate_name(getattr(edit, name), name) for name in ("first_name", "last_name", "username")}
    _require_size(edit.public_metadata, "public_metadata", MAX_METADATA_BYTES)
    _require_size(edit.attributes, "attributes", MAX_ATTRIBUTES_BYTES)
    email = validate_email_address(edit.email) if edit.email is not None else None
    return msgspec.structs.replace(edit, **names, email=email)


def validate_name(text: str | None, field: str) -> str | None:
    """A name without the space around it. Raises Refused for what no name is."""
    if text is None:
        return None
    name = text.strip()
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        words = lazy_gettext(
            "A %(value)s has up to %(most)s characters that can be seen.",
            value=field.replace("_", " "),
            most=MAX_NAME_LENGTH,
        )
        raise ChangeRejectedError(words, code="invalid_name", field=field)
    return name


def _require_size(value: dict[str, Any] | None, field: str, most: int) -> None:
    try:
        encoded = msgspec.json.encode(value or {})
    except (TypeError, ValueError, RecursionError) as error:
        raise ChangeRejectedError(
            lazy_gettext("%(field)s can't be kept: %(error)s", field=field, error=error),
            code="invalid_metadata",
            field=field,
        ) from error
    if len(encoded) > most or b"\\u0000" in encoded:
        words = lazy_gettext(
            "%(field)s must have %(most)s bytes or fewer, and no NUL character.", field=field, most=most
        )
        raise ChangeRejectedError(words, code="invalid_metadata", field=field)


def make_email_taken_error(email: str) -> ChangeRejectedError:
    """Somebody else has this address."""
    words = lazy_gettext("Someone else already uses %(email)s. Nothing was changed.", email=email)
    return ChangeRejectedError(words, code="email_taken", status=CONFLICT, field="email")


def make_username_taken_error(username: str) -> ChangeRejectedError:
    """Somebody else has this username."""
    words = lazy_gettext("Someone else already uses the username %(username)s. Nothing was changed.", username=username)
    return ChangeRejectedError(words, code="username_taken", status=CONFLICT, field="username")


def translate_provider_refusal(
    refusal: ClerkRejectedError, intent: Mapping[str, Any], *, whom: str
) -> ChangeRejectedError:
    """Clerk's refusal of a change of a person; the database was left as it was. `intent` is what was asked for."""
    wanted = intent.get("profile", intent)
    if refusal.code == "form_identifier_exists":
        is_email = wanted.get("email") and refusal.param != "username"
        taken = (
            make_email_taken_error(wanted["email"])
            if is_email
            else make_username_taken_error(wanted.get("username") or "")
        )
        return ChangeRejectedError(taken.text, code=taken.code, status=taken.status, field=taken.field, refusal=refusal)
    if refusal.code in VERIFICATION_CODE_ERRORS:
        return ChangeRejectedError(str(refusal), code=refusal.code, status=refusal.status or INVALID, field="code")
    found = errors.translate_clerk_error(refusal, whom=whom)
    if found.code in _PASSED_THROUGH_CODES:
        return found
    status = CONFLICT if found.status == NOT_FOUND else found.status
    return ChangeRejectedError(
        lazy_gettext("%(what)s: %(why)s", what=SYNC_FAILED, why=found.text),
        code=SYNC_FAILED_CODE,
        status=status,
        field=refusal.param,
        refusal=refusal,
    )


def translate_password_refusal(refusal: ClerkRejectedError, *, whom: str) -> ChangeRejectedError:
    """Clerk's refusal of a password, by its own rules where it is that."""
    if refusal.code == "password_not_set":
        return ChangeRejectedError(str(refusal), code=refusal.code, status=UNAVAILABLE, refusal=refusal)
    if "password" in refusal.code or refusal.param == "password":
        words = lazy_gettext("Clerk does not take this password: %(refusal)s", refusal=refusal)
        return ChangeRejectedError(words, code="password_refused", field="password", refusal=refusal)
    return translate_provider_refusal(refusal, {}, whom=whom)


def require_can_see_sessions(subject: TargetUser) -> None:
    """Raises Refused (403) for whoever may not see someone's sessions: they tell of devices and places."""
    if not (subject.rights.is_admin or subject.rights.is_self):
        words = lazy_gettext("Only instance admins, and the person, can see sessions.")
        raise ChangeRejectedError(words, code="forbidden", status=FORBIDDEN)
