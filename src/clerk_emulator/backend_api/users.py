"""Backend API: users."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import emails, search, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, invalid_value_error
from clerk_emulator.state.models import User
from clerk_emulator.wire import user_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted

MAX_BATCH_SIZE = 50
ORDERS = (
    "created_at",
    "updated_at",
    "email_address",
    "web3wallet",
    "first_name",
    "last_name",
    "phone_number",
    "username",
    "last_active_at",
    "last_sign_in_at",
)
TEXT = validation.nullable(validation.text)
FLAG = validation.nullable(validation.flag)
TIME = validation.nullable(validation.timestamp)
COMMON = {
    "external_id": TEXT,
    "first_name": TEXT,
    "last_name": TEXT,
    "locale": validation.nullable(validation.locale),
    "username": TEXT,
    "password": TEXT,
    "password_digest": TEXT,
    "password_hasher": validation.text,
    "skip_password_checks": FLAG,
    "totp_secret": validation.not_emulated,
    "backup_codes": validation.not_emulated,
    "delete_self_enabled": FLAG,
    "create_organization_enabled": FLAG,
    "create_organizations_limit": validation.nullable(validation.integer(0)),
    "legal_accepted_at": TIME,
    "skip_legal_checks": FLAG,
    "created_at": TIME,
    "bypass_client_trust": FLAG,
}
METADATA = {
    "public_metadata": validation.mapping,
    "private_metadata": validation.mapping,
    "unsafe_metadata": validation.mapping,
}
NULLABLE_METADATA = {name: validation.nullable(check) for name, check in METADATA.items()}
MOVED_METADATA = {name: validation.deprecated("use the metadata endpoints instead") for name in METADATA}
CREATE = validation.BodySchema(
    COMMON
    | NULLABLE_METADATA
    | {
        "email_address": validation.texts,
        "email_address_identification_status": validation.texts,
        "phone_number": validation.texts,
        "phone_number_identification_status": validation.texts,
        "web3_wallet": validation.not_emulated,
        "skip_password_requirement": FLAG,
        "skip_user_requirement": FLAG,
        "banned": FLAG,
        "locked": FLAG,
    }
)
CHANGES = COMMON | {
    "primary_email_address_id": TEXT,
    "notify_primary_email_address_changed": FLAG,
    "primary_phone_number_id": TEXT,
    "primary_web3_wallet_id": validation.not_emulated,
    "profile_image_id": validation.not_emulated,
    "sign_out_of_other_sessions": FLAG,
}
UPDATE = validation.BodySchema(CHANGES | MOVED_METADATA)
UPDATE_WITH_METADATA = validation.BodySchema(CHANGES | NULLABLE_METADATA)
ONLY_METADATA = validation.BodySchema(METADATA)
USER_IDS = validation.BodySchema({"user_ids": validation.texts}, required=("user_ids",), strict=False)
PASSWORD = validation.BodySchema({"password": validation.text}, required=("password",))
REMOVE_PASSWORD = validation.BodySchema({"sign_out_of_other_sessions": validation.flag})


def read_user_filter(call: BackendCall) -> search.UserFilter:
    """Return the user filter of a list of users or members."""
    query = call.query
    unsupported = ("web3_wallet", "provider", "provider_user_id")
    since = query.number("last_active_at_since")
    ranges = [
        (name, query.number(f"{name}_after"), query.number(f"{name}_before"))
        for name in ("last_active_at", "created_at", "last_sign_in_at")
    ]
    ranges.append(("last_active_at", since - 1 if since is not None else None, None))
    return search.UserFilter(
        email_address=query.texts("email_address"),
        external_id=query.texts("external_id"),
        phone_number=query.texts("phone_number"),
        username=query.texts("username"),
        user_id=query.texts("user_id"),
        organization_id=query.texts("organization_id"),
        matches_no_user=any(query.text(name) for name in unsupported),
        query=query.text("query"),
        email_address_query=query.text("email_address_query"),
        phone_number_query=query.text("phone_number_query"),
        username_query=query.text("username_query"),
        name_query=query.text("name_query"),
        banned=query.flag("banned"),
        ranges=tuple(range_ for range_ in ranges if range_[1:] != (None, None)),
    )


def list_users(call: BackendCall) -> Any:
    """List users."""
    name, descending = call.query.order(ORDERS)
    cursor = call.query.text("starting_after")
    wanted = read_user_filter(call)
    if cursor is not None:
        found = _page_after_cursor(call, cursor, name, descending, wanted)
    elif name == "created_at" and wanted.is_open:
        table = call.instance.users
        iterate = table.newest_first if descending else table.oldest_first
        found = list(_take_first(iterate(skip=call.query.offset), call.query.limit))
    elif name == "created_at" and descending:
        found = call.query.page(search.iter_users(call.instance, wanted))
    elif name == "created_at":  # same order as by cursor, also within one millisecond
        found = call.query.page(
            filter(search.build_predicate(call.instance, wanted), call.instance.users.oldest_first())
        )
    else:
        rows = search.iter_users(call.instance, wanted)
        key = lambda user: search.user_sort_key(user, name)  # noqa: E731 - one use
        found = call.query.page(iter_sorted(rows, key, descending=descending))
    return [user_json.user(call.instance, user) for user in found]


def count_users(call: BackendCall) -> Any:
    """Return the number of users."""
    wanted = read_user_filter(call)
    if wanted.is_open:
        total = len(call.instance.users)
    else:
        total = sum(1 for _ in search.iter_users(call.instance, wanted))
    return {"object": "total_count", "total_count": total}


def create_user(call: BackendCall) -> Any:
    """Create a user."""
    return user_json.user(call.instance, users.create(call.instance, CREATE.read(call.body)))


def get_user(call: BackendCall) -> Any:
    """Return a user."""
    return user_json.user(call.instance, _get_user(call))


def update_user(call: BackendCall) -> Any:
    """Update a user."""
    found = _get_user(call)
    form = UPDATE_WITH_METADATA if call.accepts_metadata_on_patch else UPDATE
    changes = form.read(call.body)
    changed = users.update(call.instance, found, changes)
    if changes.get("notify_primary_email_address_changed") and changes.get("primary_email_address_id"):
        emails.notify_primary_changed(call.instance, changed)
    return user_json.user(call.instance, changed)


def delete_user(call: BackendCall) -> Any:
    """Delete a user."""
    found = users.delete(call.instance, _get_user(call))
    more = {"external_id": found.external_id} if found.external_id else {}
    return user_json.deleted_object("user", found.id, **more)


def merge_metadata(call: BackendCall) -> Any:
    """Merge metadata."""
    found = _get_user(call)
    return user_json.user(call.instance, users.merge_metadata(call.instance, found, ONLY_METADATA.read(call.body)))


def replace_metadata(call: BackendCall) -> Any:
    """Replace metadata."""
    found = _get_user(call)
    changes = ONLY_METADATA.read(call.body)
    return user_json.user(call.instance, users.replace_metadata(call.instance, found, changes))


def ban_user(call: BackendCall) -> Any:
    """Ban a user."""
    return user_json.user(call.instance, users.set_banned(call.instance, _get_user(call), True))


def unban_user(call: BackendCall) -> Any:
    """Unban a user."""
    return user_json.user(call.instance, users.set_banned(call.instance, _get_user(call), False))


def ban_users(call: BackendCall) -> Any:
    """Ban users."""
    return _set_many_banned(call, True)


def unban_users(call: BackendCall) -> Any:
    """Unban users."""
    return _set_many_banned(call, False)


def lock_user(call: BackendCall) -> Any:
    """Lock a user."""
    return user_json.user(call.instance, users.set_locked(call.instance, _get_user(call), True))


def unlock_user(call: BackendCall) -> Any:
    """Unlock a user."""
    return user_json.user(call.instance, users.set_locked(call.instance, _get_user(call), False))


def verify_password(call: BackendCall) -> Any:
    """Return whether the password is right, or raise an ApiError."""
    found = _get_user(call)
    users.require_password(found, PASSWORD.read(call.body)["password"])
    return {"verified": True}


def remove_password(call: BackendCall) -> Any:
    """Remove the password of a user."""
    found = _get_user(call)
    sign_out = bool(REMOVE_PASSWORD.read(call.body).get("sign_out_of_other_sessions"))
    return user_json.user(call.instance, users.remove_password(call.instance, found, sign_out=sign_out))


def replace_email_address(call: BackendCall) -> Any:
    """Replace all email addresses of a user by one."""
    found = _get_user(call)
    fields = REPLACE_EMAIL.read(call.body)
    status = fields.get("identification_status", "verified")
    created = emails.replace_all(call.instance, found, fields["email_address"], status)
    if fields.get("notify_primary_email_address_changed"):
        emails.notify_primary_changed(call.instance, found)
    return user_json.email_address(created)


REPLACE_EMAIL = validation.BodySchema(
    {
        "email_address": validation.text,
        "identification_status": validation.choice(*emails.STATUSES),
        "notify_primary_email_address_changed": FLAG,
    },
    required=("email_address",),
)


def _get_user(call: BackendCall) -> User:
    return users.get(call.instance, call.params["user_id"])


def _set_many_banned(call: BackendCall, is_banned: bool) -> Any:
    ids = USER_IDS.read(call.body)["user_ids"]
    if not 1 <= len(ids) <= MAX_BATCH_SIZE:
        raise invalid_value_error("user_ids", f"must have 1 to {MAX_BATCH_SIZE} ids")
    found = [users.get(call.instance, user_id) for user_id in dict.fromkeys(ids)]
    for user in found:
        users.set_banned(call.instance, user, is_banned)
    return [user_json.user(call.instance, user) for user in found]


def _page_after_cursor(
    call: BackendCall, cursor: str, name: str, descending: bool, wanted: search.UserFilter
) -> list[User]:
    if name != "created_at":
        raise invalid_value_error("starting_after", "needs the order by created_at")
    if call.query.offset:
        raise invalid_value_error("starting_after", "can't be combined with an offset")
    table = call.instance.users
    key = table.key(cursor)
    if key is None:
        message = f"There is no user {cursor} to start after."
        raise ApiError(422, ErrorDetail("form_param_value_invalid", "unknown cursor", message))
    iterate = table.newest_first if descending else table.oldest_first
    rows = iterate(after=key)
    if not wanted.is_open:
        rows = filter(search.build_predicate(call.instance, wanted), rows)
    return list(_take_first(rows, call.query.limit))


def _take_first(rows: Any, limit: int) -> Any:
    return (row for row, _ in zip(rows, range(limit), strict=False))


HANDLERS: dict[str, BackendHandler] = {
    "GetUserList": list_users,
    "GetUsersCount": count_users,
    "CreateUser": create_user,
    "GetUser": get_user,
    "UpdateUser": update_user,
    "DeleteUser": delete_user,
    "UpdateUserMetadata": merge_metadata,
    "ReplaceUserMetadata": replace_metadata,
    "BanUser": ban_user,
    "UnbanUser": unban_user,
    "UsersBan": ban_users,
    "UsersUnban": unban_users,
    "LockUser": lock_user,
    "UnlockUser": unlock_user,
    "VerifyPassword": verify_password,
    "RemoveUserPassword": remove_password,
    "ReplaceUserEmailAddress": replace_email_address,
}
