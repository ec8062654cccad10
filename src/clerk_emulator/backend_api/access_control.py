"""Backend API: allowlist, blocklist, sign-in, actor and testing tokens, redirect URLs and waitlist."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import access_lists, sign_in_tokens, waitlist
from clerk_emulator.state.errors import identifier_exists_error, invalid_value_error, not_found_error
from clerk_emulator.state.models import RedirectUrl, WaitlistEntry
from clerk_emulator.wire import access_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted
from clerk_emulator.wire.user_json import deleted_object

FLAG = validation.nullable(validation.flag)
IDENTIFIER_SCHEMA = validation.BodySchema(
    {"identifier": validation.text, "notify": FLAG}, required=("identifier",), strict=False
)
SIGN_IN_TOKEN_SCHEMA = validation.BodySchema(
    {
        "user_id": validation.text,
        "org_id": validation.nullable(validation.text),
        "expires_in_seconds": validation.nullable(validation.integer(1, 10**10)),
    },
    required=("user_id",),
    strict=False,
)
ACTOR_TOKEN_SCHEMA = validation.BodySchema(
    {
        "user_id": validation.text,
        "actor": validation.mapping,
        "expires_in_seconds": validation.nullable(validation.integer(1, 10**10)),
        "session_max_duration_in_seconds": validation.nullable(validation.integer(1, 10**10)),
    },
    required=("user_id", "actor"),
    strict=False,
)
REDIRECT_URL_SCHEMA = validation.BodySchema({"url": validation.address}, required=("url",), strict=False)
WAITLIST_SCHEMA = validation.BodySchema(
    {"email_address": validation.text, "notify": FLAG}, required=("email_address",), strict=False
)
INVITE_SCHEMA = validation.BodySchema({"ignore_existing": FLAG}, strict=False)
MAX_BATCH_SIZE = 50
HOUR = 60 * 60


def list_allowlist_identifiers(call: BackendCall) -> Any:
    """List the allowlist."""
    one = call.instance
    return call.bare_page(
        one.allowlist.newest_first(), lambda row: access_json.access_list_entry(one, row, "allowlist_identifier")
    )


def create_allowlist_identifier(call: BackendCall) -> Any:
    """Add an identifier to the allowlist."""
    fields, one = IDENTIFIER_SCHEMA.read(call.body), call.instance
    created = access_lists.add(one, one.allowlist, fields["identifier"], notify=bool(fields.get("notify")))
    return access_json.access_list_entry(one, created, "allowlist_identifier")


def delete_allowlist_identifier(call: BackendCall) -> Any:
    """Delete an identifier from the allowlist."""
    access_lists.remove(call.instance.allowlist, call.params["identifier_id"])
    return deleted_object("allowlist_identifier", call.params["identifier_id"])


def list_blocklist_identifiers(call: BackendCall) -> Any:
    """List the blocklist."""
    rows = list(call.instance.blocklist.newest_first())
    data = [access_json.access_list_entry(call.instance, row, "blocklist_identifier") for row in rows]
    return {"data": data, "total_count": len(rows)}


def create_blocklist_identifier(call: BackendCall) -> Any:
    """Add an identifier to the blocklist."""
    fields, one = IDENTIFIER_SCHEMA.read(call.body), call.instance
    created = access_lists.add(one, one.blocklist, fields["identifier"], notify=False)
    return access_json.access_list_entry(one, created, "blocklist_identifier")


def delete_blocklist_identifier(call: BackendCall) -> Any:
    """Delete an identifier from the blocklist."""
    access_lists.remove(call.instance.blocklist, call.params["identifier_id"])
    return deleted_object("blocklist_identifier", call.params["identifier_id"])


def create_sign_in_token(call: BackendCall) -> Any:
    """Create a sign-in token."""
    fields = SIGN_IN_TOKEN_SCHEMA.read(call.body)
    seconds, owner = fields.get("expires_in_seconds"), fields.get("org_id")
    created = sign_in_tokens.create(call.instance, fields["user_id"], seconds, owner)
    return access_json.sign_in_token(created, call.site.url)


def revoke_sign_in_token(call: BackendCall) -> Any:
    """Revoke a sign-in token."""
    found = sign_in_tokens.revoke(call.instance, call.params["sign_in_token_id"])
    return access_json.sign_in_token(found, call.site.url)


def create_actor_token(call: BackendCall) -> Any:
    """Create an actor token, by which another person acts as a user."""
    fields = ACTOR_TOKEN_SCHEMA.read(call.body)
    if not isinstance(fields["actor"].get("sub"), str):
        raise invalid_value_error("actor", "must have sub, the acting user")
    seconds = fields.get("expires_in_seconds") or HOUR
    maximum = fields.get("session_max_duration_in_seconds") or HOUR // 2
    created = sign_in_tokens.create_for_actor(call.instance, fields["user_id"], fields["actor"], seconds, maximum)
    return access_json.actor_token(created, call.site.url)


def revoke_actor_token(call: BackendCall) -> Any:
    """Revoke an actor token."""
    found = sign_in_tokens.revoke(call.instance, call.params["actor_token_id"], "actor")
    return access_json.actor_token(found, call.site.url)


def create_testing_token(call: BackendCall) -> Any:
    """Create a testing token. It has no effect: the emulator has no bot protection."""
    now = call.instance.clock.wall() // 1000
    token = f"{now}-{call.instance.ids.new('c')}"
    return {"object": "testing_token", "token": token, "expires_at": now + HOUR}


def list_redirect_urls(call: BackendCall) -> Any:
    """List redirect URLs."""
    return call.bare_page(call.instance.redirect_urls.newest_first(), access_json.redirect_url)


def create_redirect_url(call: BackendCall) -> Any:
    """Add a redirect URL."""
    url = REDIRECT_URL_SCHEMA.read(call.body)["url"]
    if any(row.url == url for row in call.instance.redirect_urls):
        raise identifier_exists_error("url")
    now = call.instance.now
    created = RedirectUrl(id=call.instance.ids.new("ru"), url=url, created_at=now, updated_at=now)
    call.instance.redirect_urls.add(created)
    return access_json.redirect_url(created)


def get_redirect_url(call: BackendCall) -> Any:
    """Return a redirect URL."""
    return access_json.redirect_url(_get_redirect_url(call))


def delete_redirect_url(call: BackendCall) -> Any:
    """Delete a redirect URL."""
    found = _get_redirect_url(call)
    call.instance.redirect_urls.remove(found.id)
    return deleted_object("redirect_url", found.id)


def list_waitlist_entries(call: BackendCall) -> Any:
    """List the waitlist."""
    name, descending = call.query.order(("created_at", "invited_at", "email_address"))
    statuses = call.query.choices("status", ("pending", "invited", "completed", "rejected"))
    text = (call.query.text("query") or "").lower()
    rows = [
        row
        for row in call.instance.waitlist
        if (not statuses or row.status in statuses) and (text in row.email_address or text == row.id.lower())
    ]
    field = "updated_at" if name == "invited_at" else name
    found = iter_sorted(rows, lambda row: getattr(row, field), descending=descending)
    return call.page(found, lambda row: _get_waitlist_entry(call, row))


def create_waitlist_entry(call: BackendCall) -> Any:
    """Add an address to the waitlist."""
    return _get_waitlist_entry(call, waitlist.add(call.instance, [WAITLIST_SCHEMA.read(call.body)])[0])


def create_waitlist_entries(call: BackendCall) -> Any:
    """Add addresses to the waitlist."""
    created = waitlist.add(call.instance, WAITLIST_SCHEMA.read_list(call.body, MAX_BATCH_SIZE))
    return [_get_waitlist_entry(call, row) for row in created]


def invite_waitlist_entry(call: BackendCall) -> Any:
    """Invite a waitlist entry."""
    entry = waitlist.get(call.instance, call.params["waitlist_entry_id"])
    ignore_existing = bool(INVITE_SCHEMA.read(call.body).get("ignore_existing"))
    return _get_waitlist_entry(call, waitlist.invite(call.instance, entry, ignore_existing=ignore_existing))


def reject_waitlist_entry(call: BackendCall) -> Any:
    """Reject a waitlist entry."""
    entry = waitlist.get(call.instance, call.params["waitlist_entry_id"])
    return _get_waitlist_entry(call, waitlist.reject(call.instance, entry))


def delete_waitlist_entry(call: BackendCall) -> Any:
    """Delete a waitlist entry."""
    entry = waitlist.get(call.instance, call.params["waitlist_entry_id"])
    waitlist.remove(call.instance, entry)
    return deleted_object("waitlist_entry", entry.id)


def _get_redirect_url(call: BackendCall) -> RedirectUrl:
    found = call.instance.redirect_urls.find(call.params["id"])
    if found is None:
        raise not_found_error("redirect URL", call.params["id"])
    return found


def _get_waitlist_entry(call: BackendCall, entry: WaitlistEntry) -> Any:
    return access_json.waitlist_entry(call.instance, entry, call.site.url)


HANDLERS: dict[str, BackendHandler] = {
    "ListAllowlistIdentifiers": list_allowlist_identifiers,
    "CreateAllowlistIdentifier": create_allowlist_identifier,
    "DeleteAllowlistIdentifier": delete_allowlist_identifier,
    "ListBlocklistIdentifiers": list_blocklist_identifiers,
    "CreateBlocklistIdentifier": create_blocklist_identifier,
    "DeleteBlocklistIdentifier": delete_blocklist_identifier,
    "CreateSignInToken": create_sign_in_token,
    "RevokeSignInToken": revoke_sign_in_token,
    "CreateActorToken": create_actor_token,
    "RevokeActorToken": revoke_actor_token,
    "CreateTestingToken": create_testing_token,
    "ListRedirectURLs": list_redirect_urls,
    "CreateRedirectURL": create_redirect_url,
    "GetRedirectURL": get_redirect_url,
    "DeleteRedirectURL": delete_redirect_url,
    "ListWaitlistEntries": list_waitlist_entries,
    "CreateWaitlistEntry": create_waitlist_entry,
    "CreateBulkWaitlistEntries": create_waitlist_entries,
    "InviteWaitlistEntry": invite_waitlist_entry,
    "RejectWaitlistEntry": reject_waitlist_entry,
    "DeleteWaitlistEntry": delete_waitlist_entry,
}
