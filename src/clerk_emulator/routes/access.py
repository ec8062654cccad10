"""Who comes in and how: lists, sign-in tokens, testing tokens, redirect URLs, the waitlist."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import access_lists, sign_in_tokens, waitlist
from clerk_emulator.state.kinds import RedirectUrl, WaitlistEntry
from clerk_emulator.state.refusals import bad_value, identifier_exists, missing_resource
from clerk_emulator.wire import access, forms
from clerk_emulator.wire.people import deleted
from clerk_emulator.wire.queries import ordered

FLAG = forms.nullable(forms.flag)
LISTED = forms.Form({"identifier": forms.text, "notify": FLAG}, required=("identifier",), strict=False)
TOKEN = forms.Form(
    {
        "user_id": forms.text,
        "org_id": forms.nullable(forms.text),
        "expires_in_seconds": forms.nullable(forms.integer(1, 10**10)),
    },
    required=("user_id",),
    strict=False,
)
ACTOR = forms.Form(
    {
        "user_id": forms.text,
        "actor": forms.mapping,
        "expires_in_seconds": forms.nullable(forms.integer(1, 10**10)),
        "session_max_duration_in_seconds": forms.nullable(forms.integer(1, 10**10)),
    },
    required=("user_id", "actor"),
    strict=False,
)
URL = forms.Form({"url": forms.address}, required=("url",), strict=False)
WAIT = forms.Form({"email_address": forms.text, "notify": FLAG}, required=("email_address",), strict=False)
INVITE = forms.Form({"ignore_existing": FLAG}, strict=False)
MOST_AT_ONCE = 50
HOUR = 60 * 60


def list_allowed(call: Call) -> Any:
    """Answer a page of those who may come in."""
    one = call.instance
    return call.bare_page(one.allowlist.newest_first(), lambda row: access.listed(one, row, "allowlist_identifier"))


def allow(call: Call) -> Any:
    """Let an identifier in."""
    fields, one = LISTED.read(call.body), call.instance
    made = access_lists.add(one, one.allowlist, fields["identifier"], notify=bool(fields.get("notify")))
    return access.listed(one, made, "allowlist_identifier")


def disallow(call: Call) -> Any:
    """Take an identifier off the list."""
    access_lists.remove(call.instance.allowlist, call.params["identifier_id"])
    return deleted("allowlist_identifier", call.params["identifier_id"])


def list_blocked(call: Call) -> Any:
    """Answer all who may not come in."""
    rows = list(call.instance.blocklist.newest_first())
    data = [access.listed(call.instance, row, "blocklist_identifier") for row in rows]
    return {"data": data, "total_count": len(rows)}


def block(call: Call) -> Any:
    """Keep an identifier out."""
    fields, one = LISTED.read(call.body), call.instance
    made = access_lists.add(one, one.blocklist, fields["identifier"], notify=False)
    return access.listed(one, made, "blocklist_identifier")


def unblock(call: Call) -> Any:
    """Take an identifier off the list."""
    access_lists.remove(call.instance.blocklist, call.params["identifier_id"])
    return deleted("blocklist_identifier", call.params["identifier_id"])


def create_sign_in_token(call: Call) -> Any:
    """Make a link that signs a user in."""
    fields = TOKEN.read(call.body)
    seconds, owner = fields.get("expires_in_seconds"), fields.get("org_id")
    made = sign_in_tokens.create(call.instance, fields["user_id"], seconds, owner)
    return access.sign_in_token(made, call.site.url)


def revoke_sign_in_token(call: Call) -> Any:
    """Take such a link back."""
    found = sign_in_tokens.revoke(call.instance, call.params["sign_in_token_id"])
    return access.sign_in_token(found, call.site.url)


def create_actor_token(call: Call) -> Any:
    """Make a link by which somebody else acts in a user's name."""
    fields = ACTOR.read(call.body)
    if not isinstance(fields["actor"].get("sub"), str):
        raise bad_value("actor", "must have sub, who acts")
    seconds = fields.get("expires_in_seconds") or HOUR
    most = fields.get("session_max_duration_in_seconds") or HOUR // 2
    made = sign_in_tokens.create_for_actor(call.instance, fields["user_id"], fields["actor"], seconds, most)
    return access.actor_token(made, call.site.url)


def revoke_actor_token(call: Call) -> Any:
    """Take such a link back."""
    found = sign_in_tokens.revoke(call.instance, call.params["actor_token_id"], "actor")
    return access.actor_token(found, call.site.url)


def create_testing_token(call: Call) -> Any:
    """Answer a token by which tests pass the protection against robots, which nobody has here."""
    now = call.instance.clock.wall() // 1000
    token = f"{now}-{call.instance.ids.new('c')}"
    return {"object": "testing_token", "token": token, "expires_at": now + HOUR}


def list_redirect_urls(call: Call) -> Any:
    """Answer a page of redirect URLs."""
    return call.bare_page(call.instance.redirect_urls.newest_first(), access.redirect_url)


def create_redirect_url(call: Call) -> Any:
    """Add a redirect URL."""
    url = URL.read(call.body)["url"]
    if any(row.url == url for row in call.instance.redirect_urls):
        raise identifier_exists("url")
    now = call.instance.now
    made = RedirectUrl(id=call.instance.ids.new("ru"), url=url, created_at=now, updated_at=now)
    call.instance.redirect_urls.add(made)
    return access.redirect_url(made)


def get_redirect_url(call: Call) -> Any:
    """Answer one redirect URL."""
    return access.redirect_url(_redirect_url(call))


def delete_redirect_url(call: Call) -> Any:
    """Take a redirect URL away."""
    found = _redirect_url(call)
    call.instance.redirect_urls.remove(found.id)
    return deleted("redirect_url", found.id)


def list_waiting(call: Call) -> Any:
    """Answer a page of the waitlist."""
    name, descending = call.query.order(("created_at", "invited_at", "email_address"))
    statuses = call.query.choices("status", ("pending", "invited", "completed", "rejected"))
    text = (call.query.text("query") or "").lower()
    rows = [
        row
        for row in call.instance.waitlist
        if (not statuses or row.status in statuses) and (text in row.email_address or text == row.id.lower())
    ]
    field = "updated_at" if name == "invited_at" else name
    found = ordered(rows, lambda row: getattr(row, field), descending=descending)
    return call.page(found, lambda row: _waiting(call, row))


def wait(call: Call) -> Any:
    """Let an address wait."""
    return _waiting(call, waitlist.add(call.instance, [WAIT.read(call.body)])[0])


def wait_many(call: Call) -> Any:
    """Let addresses wait."""
    made = waitlist.add(call.instance, WAIT.read_list(call.body, MOST_AT_ONCE))
    return [_waiting(call, row) for row in made]


def invite_waiting(call: Call) -> Any:
    """Invite one who waits."""
    entry = waitlist.get(call.instance, call.params["waitlist_entry_id"])
    ignore_existing = bool(INVITE.read(call.body).get("ignore_existing"))
    return _waiting(call, waitlist.invite(call.instance, entry, ignore_existing=ignore_existing))


def reject_waiting(call: Call) -> Any:
    """Reject one who waits."""
    entry = waitlist.get(call.instance, call.params["waitlist_entry_id"])
    return _waiting(call, waitlist.reject(call.instance, entry))


def forget_waiting(call: Call) -> Any:
    """Forget one who waits."""
    entry = waitlist.get(call.instance, call.params["waitlist_entry_id"])
    waitlist.remove(call.instance, entry)
    return deleted("waitlist_entry", entry.id)


def _redirect_url(call: Call) -> RedirectUrl:
    found = call.instance.redirect_urls.find(call.params["id"])
    if found is None:
        raise missing_resource("redirect URL", call.params["id"])
    return found


def _waiting(call: Call, entry: WaitlistEntry) -> Any:
    return access.waitlist_entry(call.instance, entry, call.site.url)


HANDLERS: dict[str, Handler] = {
    "ListAllowlistIdentifiers": list_allowed,
    "CreateAllowlistIdentifier": allow,
    "DeleteAllowlistIdentifier": disallow,
    "ListBlocklistIdentifiers": list_blocked,
    "CreateBlocklistIdentifier": block,
    "DeleteBlocklistIdentifier": unblock,
    "CreateSignInToken": create_sign_in_token,
    "RevokeSignInToken": revoke_sign_in_token,
    "CreateActorToken": create_actor_token,
    "RevokeActorToken": revoke_actor_token,
    "CreateTestingToken": create_testing_token,
    "ListRedirectURLs": list_redirect_urls,
    "CreateRedirectURL": create_redirect_url,
    "GetRedirectURL": get_redirect_url,
    "DeleteRedirectURL": delete_redirect_url,
    "ListWaitlistEntries": list_waiting,
    "CreateWaitlistEntry": wait,
    "CreateBulkWaitlistEntries": wait_many,
    "InviteWaitlistEntry": invite_waiting,
    "RejectWaitlistEntry": reject_waiting,
    "DeleteWaitlistEntry": forget_waiting,
}
