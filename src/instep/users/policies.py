"""Permission rules and validation of user changes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from instep.auth.principal import Principal, grants_instance_admin
from instep.core.i18n import LazyString, lazy_gettext
from instep.domain.emails import canonicalize_email, validate_email_address
from instep.domain.errors import (
    CONFLICT,
    FORBIDDEN,
    INVALID,
    NOT_FOUND,
    UNAVAILABLE,
    ChangeRejectedError,
    ClerkRejectedError,
    translate_clerk_error,
)
from instep.mirror.user_repository import UserRow
from instep.users.models import SharedOrganization, TargetUser, UserChanges, UserPermissions

SYNC_FAILED_CODE = "clerk_sync_failed"
API_KEY_CANNOT_GRANT_RIGHTS = lazy_gettext(
    "API keys cannot create instance admins or change their accounts. Nothing was changed."
)
BANS_UNAVAILABLE = lazy_gettext("Your Clerk plan does not include bans. Deactivated here, and signed out everywhere.")
PASSWORD_OUTCOME_UNKNOWN = "We do not know whether the password was changed; set it again."  # noqa: S105 (a sentence)
PASSWORD_NOT_SET = "password_not_set"  # noqa: S105 (an error code)
VERIFICATION_CODE_ERRORS = frozenset({"wrong_code", "code_expired", "code_failed", "code_lost"})
SELF_EDITABLE_FIELDS = frozenset({"first_name", "last_name"})
ADMIN_EDITABLE_FIELDS = SELF_EDITABLE_FIELDS | {"username"}
MAX_NAME_LENGTH = 256  # characters
MAX_METADATA_BYTES = 8_192  # Clerk's limit
MAX_ATTRIBUTES_BYTES = 65_536
_PASSED_THROUGH_CODES = frozenset({"managed_by_directory", "plan"})
_ADMINS_ONLY = {
    "list": lazy_gettext("Only instance admins can list users."),
    "create": lazy_gettext("Only instance admins can create users."),
    "delete": lazy_gettext("Only instance admins can delete users."),
    "restore": lazy_gettext("Only instance admins can restore users."),
    "ban": lazy_gettext("Only instance admins can ban users."),
    "unban": lazy_gettext("Only instance admins can unban users."),
    "set_password": lazy_gettext("Only instance admins can set passwords."),
    "change_email": lazy_gettext("Only instance admins can change email addresses."),
}
_NOT_YOURSELF = {
    "delete": lazy_gettext("You can't delete yourself."),
    "restore": lazy_gettext("You can't restore yourself."),
    "ban": lazy_gettext("You can't ban yourself."),
    "unban": lazy_gettext("You can't unban yourself."),
}
_FIELD_FORBIDDEN = {
    "first_name": lazy_gettext("You do not have permission to change this first name."),
    "last_name": lazy_gettext("You do not have permission to change this last name."),
    "username": lazy_gettext("You do not have permission to change this username."),
    "email": lazy_gettext("You do not have permission to change this email address."),
    "public_metadata": lazy_gettext("You do not have permission to change this public metadata."),
    "attributes": lazy_gettext("You do not have permission to change these attributes."),
}
_USER_FORBIDDEN = lazy_gettext("You do not have permission to change this user.")


def determine_permissions(
    principal: Principal,
    user_id: str,
    shared_organizations: Sequence[SharedOrganization],
    *,
    is_target_instance_admin: bool,
) -> UserPermissions:
    """Return the permissions of a principal on a user.

    An organization's admin may manage its members, other admins included; only instance admins may manage an instance
    admin.
    """
    managed = () if is_target_instance_admin else (it for it in shared_organizations if it.is_caller_admin)
    return UserPermissions(
        is_admin=principal.is_instance_admin,
        is_self=principal.user_id == user_id,
        shared_organization_ids=frozenset(it.organization_id for it in shared_organizations),
        managed_organization_ids=frozenset(it.organization_id for it in managed),
    )


def require_instance_admin(permissions: UserPermissions, action: str) -> None:
    """Raise ChangeRejectedError (403) unless the caller is an instance admin. `action`: a key of `_ADMINS_ONLY`."""
    if not permissions.is_admin:
        raise ChangeRejectedError(_ADMINS_ONLY[action], code="forbidden", status=FORBIDDEN)


def require_not_self(permissions: UserPermissions, action: str) -> None:
    """Raise ChangeRejectedError (409) where callers would lock themselves out. `action`: a key of `_NOT_YOURSELF`."""
    if permissions.is_self:
        raise ChangeRejectedError(_NOT_YOURSELF[action], code="yourself", status=CONFLICT)


def require_can_edit(permissions: UserPermissions, fields: Collection[str]) -> None:
    """Raise ChangeRejectedError (403) for the first of these fields that the caller may not change.

    Users change their own names; an organization's admin changes names and usernames of its members. Public metadata,
    attributes, addresses and passwords take effect beyond one organization: instance admins only.
    """
    if permissions.is_admin:
        return
    allowed = frozenset[str]()
    if permissions.managed_organization_ids:
        allowed = ADMIN_EDITABLE_FIELDS
    elif permissions.is_self:
        allowed = SELF_EDITABLE_FIELDS
    for field in sorted(set(fields) - allowed):
        message = _FIELD_FORBIDDEN[field] if allowed else _USER_FORBIDDEN
        raise ChangeRejectedError(message, code="forbidden", status=FORBIDDEN, field=field)


def require_api_key_allowed(
    principal: Principal, fields: Mapping[str, Any], *, is_target_instance_admin: bool, admins: Collection[str]
) -> None:
    """Raise ChangeRejectedError (403) where an API key would create an instance admin or take over the account of one.

    A key can be revoked; an admin created by it, and the keys of that admin, would outlive it. So a key neither grants
    nor removes rights by metadata, assigns no address that `admins` contains, and changes neither the address, the
    password nor the status (`account`) of an instance admin. Other principals are not restricted here.
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


def require_can_see_sessions(target: TargetUser) -> None:
    """Raise ChangeRejectedError (403) unless the caller may see these sessions: they reveal devices and locations."""
    if not (target.permissions.is_admin or target.permissions.is_self):
        message = lazy_gettext("Only instance admins and the user can see these sessions.")
        raise ChangeRejectedError(message, code="forbidden", status=FORBIDDEN)


def require_not_deleted(user: UserRow | None) -> UserRow:
    """Return the user; raise ChangeRejectedError where there is none (404) or where they are deleted (409)."""
    if user is None:
        raise make_user_not_found_error()
    if user.is_deleted:
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is deleted. Restore them first.", name=user.name), code="deleted", status=CONFLICT
        )
    return user


def require_another_admin(sole_admin_of: Mapping[str, str]) -> None:
    """Enforce the last-admin guard.

    `sole_admin_of`: names, by id, of the organizations in which the user is the only admin.
    """
    if sole_admin_of:
        message = lazy_gettext(
            "This is the last admin. Make someone else an admin first. (%(organizations)s)",
            organizations=", ".join(sorted(sole_admin_of.values())),
        )
        raise ChangeRejectedError(message, code="last_admin", status=CONFLICT)


def validate_changes(changes: UserChanges) -> UserChanges:
    """Return the changes with normalized names and address. Raises ChangeRejectedError (422) for invalid values."""
    names = {name: validate_name(getattr(changes, name), name) for name in ("first_name", "last_name", "username")}
    _require_size(changes.public_metadata, "public_metadata", MAX_METADATA_BYTES)
    _require_size(changes.attributes, "attributes", MAX_ATTRIBUTES_BYTES)
    email = validate_email_address(changes.email) if changes.email is not None else None
    return msgspec.structs.replace(changes, **names, email=email)


def validate_name(text: str | None, field: str) -> str | None:
    """Return a name without surrounding space.

    Raises ChangeRejectedError (`invalid_name`) for more than `MAX_NAME_LENGTH` or non-printable characters.
    """
    if text is None:
        return None
    name = text.strip()
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ChangeRejectedError(_describe_invalid_name(field), code="invalid_name", field=field)
    return name


def _describe_invalid_name(field: str) -> LazyString:
    if field == "first_name":
        return lazy_gettext("A first name has at most %(limit)s printable characters.", limit=MAX_NAME_LENGTH)
    if field == "last_name":
        return lazy_gettext("A last name has at most %(limit)s printable characters.", limit=MAX_NAME_LENGTH)
    return lazy_gettext("A username has at most %(limit)s printable characters.", limit=MAX_NAME_LENGTH)


def _require_size(value: dict[str, Any] | None, field: str, limit: int) -> None:
    try:
        encoded = msgspec.json.encode(value or {})
    except (TypeError, ValueError, RecursionError) as error:
        raise ChangeRejectedError(
            lazy_gettext("%(field)s can't be stored: %(error)s", field=field, error=error),
            code="invalid_metadata",
            field=field,
        ) from error
    if len(encoded) > limit or b"\\u0000" in encoded:
        message = lazy_gettext(
            "%(field)s must have at most %(limit)s bytes and no NUL character.", field=field, limit=limit
        )
        raise ChangeRejectedError(message, code="invalid_metadata", field=field)


def make_user_not_found_error() -> ChangeRejectedError:
    """Create the error for a user who does not exist or whom the caller may not see."""
    return ChangeRejectedError(lazy_gettext("User not found."), code="user_not_found", status=NOT_FOUND)


def make_email_taken_error(email: str, *, refusal: ClerkRejectedError | None = None) -> ChangeRejectedError:
    """Create the error for an address that another user has. `refusal` is Clerk's, where Clerk found it out."""
    message = lazy_gettext("Someone else already uses %(email)s. Nothing was changed.", email=email)
    return ChangeRejectedError(message, code="email_taken", status=CONFLICT, field="email", refusal=refusal)


def make_username_taken_error(username: str, *, refusal: ClerkRejectedError | None = None) -> ChangeRejectedError:
    """Create the error for a username that another user has. `refusal` is Clerk's, where Clerk found it out."""
    message = lazy_gettext(
        "Someone else already uses the username %(username)s. Nothing was changed.", username=username
    )
    return ChangeRejectedError(message, code="username_taken", status=CONFLICT, field="username", refusal=refusal)


def translate_provider_refusal(
    refusal: ClerkRejectedError, intent: Mapping[str, Any], *, display_name: str
) -> ChangeRejectedError:
    """Translate Clerk's rejection of a user change; the database is unchanged. `intent` is the operation's."""
    wanted = intent.get("profile", intent)
    if refusal.code == "form_identifier_exists":
        if wanted.get("email") and refusal.param != "username":
            return make_email_taken_error(wanted["email"], refusal=refusal)
        return make_username_taken_error(wanted.get("username") or "", refusal=refusal)
    if refusal.code in VERIFICATION_CODE_ERRORS:
        return ChangeRejectedError(str(refusal), code=refusal.code, status=refusal.status or INVALID, field="code")
    translated = translate_clerk_error(refusal, whom=display_name)
    if translated.code in _PASSED_THROUGH_CODES:
        return translated
    return ChangeRejectedError(
        lazy_gettext("Failed to sync with Clerk authentication system: %(reason)s", reason=translated.text),
        code=SYNC_FAILED_CODE,
        status=CONFLICT if translated.status == NOT_FOUND else translated.status,
        field=refusal.param,
        refusal=refusal,
    )


def translate_password_refusal(refusal: ClerkRejectedError, *, display_name: str) -> ChangeRejectedError:
    """Translate Clerk's rejection of a password; violated password rules are reported at the field."""
    if refusal.code == PASSWORD_NOT_SET:
        return ChangeRejectedError(str(refusal), code=refusal.code, status=UNAVAILABLE, refusal=refusal)
    if "password" in refusal.code or refusal.param == "password":
        message = lazy_gettext("Clerk does not accept this password: %(refusal)s", refusal=refusal)
        return ChangeRejectedError(message, code="password_refused", field="password", refusal=refusal)
    return translate_provider_refusal(refusal, {}, display_name=display_name)
