"""Users: list, count, create, get, change, ban, lock, delete."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import emails, search, users
from clerk_emulator.state.model import User
from clerk_emulator.state.refusals import Problem, Refused, bad_value
from clerk_emulator.wire import forms, people
from clerk_emulator.wire.queries import ordered

MOST_AT_ONCE = 50
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
TEXT = forms.nullable(forms.text)
FLAG = forms.nullable(forms.flag)
TIME = forms.nullable(forms.moment)
COMMON = {
    "external_id": TEXT,
    "first_name": TEXT,
    "last_name": TEXT,
    "locale": forms.nullable(forms.locale),
    "username": TEXT,
    "password": TEXT,
    "password_digest": TEXT,
    "password_hasher": forms.text,
    "skip_password_checks": FLAG,
    "totp_secret": forms.absent,
    "backup_codes": forms.absent,
    "delete_self_enabled": FLAG,
    "create_organization_enabled": FLAG,
    "create_organizations_limit": forms.nullable(forms.integer(0)),
    "legal_accepted_at": TIME,
    "skip_legal_checks": FLAG,
    "created_at": TIME,
    "bypass_client_trust": FLAG,
}
METADATA = {
    "public_metadata": forms.mapping,
    "private_metadata": forms.mapping,
    "unsafe_metadata": forms.mapping,
}
NULLABLE_METADATA = {name: forms.nullable(check) for name, check in METADATA.items()}
MOVED_METADATA = {name: forms.deprecated("use the metadata endpoints instead") for name in METADATA}
CREATE = forms.Form(
    COMMON
    | NULLABLE_METADATA
    | {
        "email_address": forms.texts,
        "email_address_identification_status": forms.texts,
        "phone_number": forms.texts,
        "phone_number_identification_status": forms.texts,
        "web3_wallet": forms.absent,
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
    "primary_web3_wallet_id": forms.absent,
    "profile_image_id": forms.absent,
    "sign_out_of_other_sessions": FLAG,
}
UPDATE = forms.Form(CHANGES | MOVED_METADATA)
UPDATE_BEFORE = forms.Form(CHANGES | NULLABLE_METADATA)
ONLY_METADATA = forms.Form(METADATA)
MANY = forms.Form({"user_ids": forms.texts}, required=("user_ids",), strict=False)
PASSWORD = forms.Form({"password": forms.text}, required=("password",))
NO_PASSWORD = forms.Form({"sign_out_of_other_sessions": forms.flag})


def criteria(call: Call) -> search.Criteria:
    """Return the filters of a list of users or members."""
    query = call.query
    unknowable = ("web3_wallet", "provider", "provider_user_id")
    since = query.number("last_active_at_since")
    ranges = [
        (name, query.number(f"{name}_after"), query.number(f"{name}_before"))
        for name in ("last_active_at", "created_at", "last_sign_in_at")
    ]
    ranges.append(("last_active_at", since - 1 if since is not None else None, None))
    return search.Criteria(
        email_address=query.texts("email_address"),
        external_id=query.texts("external_id"),
        phone_number=query.texts("phone_number"),
        username=query.texts("username"),
        user_id=query.texts("user_id"),
        organization_id=query.texts("organization_id"),
        unknowable=any(query.text(name) for name in unknowable),
        query=query.text("query"),
        email_address_query=query.text("email_address_query"),
        phone_number_query=query.text("phone_number_query"),
        username_query=query.text("username_query"),
        name_query=query.text("name_query"),
        banned=query.flag("banned"),
        ranges=tuple(span for span in ranges if span[1:] != (None, None)),
    )


def list_users(call: Call) -> Any:
    """Answer a page of users."""
    name, descending = call.query.order(ORDERS)
    cursor = call.query.text("starting_after")
    wanted = criteria(call)
    if cursor is not None:
        found = _after(call, cursor, name, descending, wanted)
    elif name == "created_at" and wanted.is_open:
        table = call.instance.users
        walk = table.newest_first if descending else table.oldest_first
        found = list(_first(walk(skip=call.query.offset), call.query.limit))
    elif name == "created_at" and descending:
        found = call.query.page(search.walk(call.instance, wanted))
    elif name == "created_at":  # the same order as by cursor, also among those made in the same moment
        found = call.query.page(filter(search.fits(call.instance, wanted), call.instance.users.oldest_first()))
    else:
        rows = search.walk(call.instance, wanted)
        key = lambda user: search.user_value(user, name)  # noqa: E731 - one use
        found = call.query.page(ordered(rows, key, descending=descending))
    return [people.user(call.instance, user) for user in found]


def count_users(call: Call) -> Any:
    """Answer how many users there are."""
    wanted = criteria(call)
    if wanted.is_open:
        total = len(call.instance.users)
    else:
        total = sum(1 for _ in search.walk(call.instance, wanted))
    return {"object": "total_count", "total_count": total}


def create_user(call: Call) -> Any:
    """Make a user."""
    return people.user(call.instance, users.create(call.instance, CREATE.read(call.body)))


def get_user(call: Call) -> Any:
    """Answer one user."""
    return people.user(call.instance, _user(call))


def update_user(call: Call) -> Any:
    """Change a user."""
    found = _user(call)
    form = UPDATE_BEFORE if call.takes_metadata_on_patch else UPDATE
    changes = form.read(call.body)
    changed = users.update(call.instance, found, changes)
    if changes.get("notify_primary_email_address_changed") and changes.get("primary_email_address_id"):
        emails.announce_primary(call.instance, changed)
    return people.user(call.instance, changed)


def delete_user(call: Call) -> Any:
    """Delete a user."""
    found = users.delete(call.instance, _user(call))
    more = {"external_id": found.external_id} if found.external_id else {}
    return people.deleted("user", found.id, **more)


def merge_metadata(call: Call) -> Any:
    """Merge metadata."""
    found = _user(call)
    return people.user(call.instance, users.merge_metadata(call.instance, found, ONLY_METADATA.read(call.body)))


def replace_metadata(call: Call) -> Any:
    """Replace metadata."""
    found = _user(call)
    changes = ONLY_METADATA.read(call.body)
    return people.user(call.instance, users.replace_metadata(call.instance, found, changes))


def ban(call: Call) -> Any:
    """Ban a user."""
    return people.user(call.instance, users.set_banned(call.instance, _user(call), True))


def unban(call: Call) -> Any:
    """Lift the ban of a user."""
    return people.user(call.instance, users.set_banned(call.instance, _user(call), False))


def ban_many(call: Call) -> Any:
    """Ban users."""
    return _set_many_banned(call, True)


def unban_many(call: Call) -> Any:
    """Lift bans."""
    return _set_many_banned(call, False)


def lock(call: Call) -> Any:
    """Lock a user."""
    return people.user(call.instance, users.set_locked(call.instance, _user(call), True))


def unlock(call: Call) -> Any:
    """Unlock a user."""
    return people.user(call.instance, users.set_locked(call.instance, _user(call), False))


def verify_password(call: Call) -> Any:
    """Say that it is the password, or refuse."""
    found = _user(call)
    users.check_password(found, PASSWORD.read(call.body)["password"])
    return {"verified": True}


def remove_password(call: Call) -> Any:
    """Take the password away."""
    found = _user(call)
    sign_out = bool(NO_PASSWORD.read(call.body).get("sign_out_of_other_sessions"))
    return people.user(call.instance, users.remove_password(call.instance, found, sign_out=sign_out))


def replace_email_address(call: Call) -> Any:
    """Give a user one address instead of all."""
    found = _user(call)
    fields = REPLACE_EMAIL.read(call.body)
    status = fields.get("identification_status", "verified")
    made = emails.replace_all(call.instance, found, fields["email_address"], status)
    if fields.get("notify_primary_email_address_changed"):
        emails.announce_primary(call.instance, found)
    return people.email_address(made)


REPLACE_EMAIL = forms.Form(
    {
        "email_address": forms.text,
        "identification_status": forms.choice(*emails.STATUSES),
        "notify_primary_email_address_changed": FLAG,
    },
    required=("email_address",),
)


def _user(call: Call) -> User:
    return users.get(call.instance, call.params["user_id"])


def _set_many_banned(call: Call, is_banned: bool) -> Any:
    ids = MANY.read(call.body)["user_ids"]
    if not 1 <= len(ids) <= MOST_AT_ONCE:
        raise bad_value("user_ids", f"must have 1 to {MOST_AT_ONCE} ids")
    found = [users.get(call.instance, user_id) for user_id in dict.fromkeys(ids)]
    for user in found:
        users.set_banned(call.instance, user, is_banned)
    return [people.user(call.instance, user) for user in found]


def _after(call: Call, cursor: str, name: str, descending: bool, wanted: search.Criteria) -> list[User]:
    if name != "created_at":
        raise bad_value("starting_after", "needs the order by created_at")
    if call.query.offset:
        raise bad_value("starting_after", "can't be combined with an offset")
    table = call.instance.users
    key = table.key(cursor)
    if key is None:
        words = f"There is no user {cursor} to start after."
        raise Refused(422, Problem("form_param_value_invalid", "unknown cursor", words))
    walk = table.newest_first if descending else table.oldest_first
    rows = walk(after=key)
    if not wanted.is_open:
        rows = filter(search.fits(call.instance, wanted), rows)
    return list(_first(rows, call.query.limit))


def _first(rows: Any, limit: int) -> Any:
    return (row for row, _ in zip(rows, range(limit), strict=False))


HANDLERS: dict[str, Handler] = {
    "GetUserList": list_users,
    "GetUsersCount": count_users,
    "CreateUser": create_user,
    "GetUser": get_user,
    "UpdateUser": update_user,
    "DeleteUser": delete_user,
    "UpdateUserMetadata": merge_metadata,
    "ReplaceUserMetadata": replace_metadata,
    "BanUser": ban,
    "UnbanUser": unban,
    "UsersBan": ban_many,
    "UsersUnban": unban_many,
    "LockUser": lock,
    "UnlockUser": unlock,
    "VerifyPassword": verify_password,
    "RemoveUserPassword": remove_password,
    "ReplaceUserEmailAddress": replace_email_address,
}
