"""Hostile requests of the right shape: to the REST API and to the console's forms, by somebody who may."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.support.hostile import IDS, KINDS, ORGANIZATION, Choice, make_value, write

HOME = f"/v1/organizations/{ORGANIZATION}"
PAGES = f"/organizations/{ORGANIZATION}"
GOOD: dict[str, Any] = {
    "text": "Maya",
    "email": "maya@example.com",
    "metadata": {"team": "blue"},
    "role": "org:member",
    "id": "user_mate1",
    "flag": True,
    "days": 7,
    "ids": ["user_mate2"],
    "scopes": ["read"],
    "action": "deactivate",
    "rows": [{"email": "ann@example.com", "role": "org:member"}],
}
_MANY = {"ids": ([], ["\ud800"], ["\0", "user_mate2"], ["x" * 300], *KINDS["any"])}
_MANY["rows"] = ([], [{"email": "\ud800@example.com"}], [{"email": "a@example.com", "role": "\0"}], *KINDS["any"])
_PROFILE = {"first_name": "text", "last_name": "text", "username": "text", "public_metadata": "metadata"}
BODIES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("POST", "/v1/users", {**_PROFILE, "email": "email", "attributes": "metadata", "clerk": "flag"}),
    ("POST", "/v1/users", {"email": "email", "first_name": "text", "attributes": "metadata", "clerk": "off"}),
    ("PATCH", "/v1/users/user_mate1", {**_PROFILE, "attributes": "metadata"}),
    ("PATCH", "/v1/users/user_mate1", {"attributes": "metadata"}),
    ("POST", "/v1/users/user_mate1/password", {"password": "text"}),
    ("POST", "/v1/users/user_mate1/email", {"email": "email"}),
    ("POST", "/v1/users/user_mate1/email/verify", {"verification": "text", "code": "text"}),
    ("POST", "/v1/users/user_mate1/sessions/end", {"session": "id"}),
    ("PATCH", f"{HOME}/members/user_mate1", {"role": "role"}),
    ("POST", f"{HOME}/transfer", {"user_id": "id"}),
    ("POST", f"{HOME}/members/bulk", {"action": "action", "user_ids": "ids", "role": "role"}),
    ("POST", f"{HOME}/invitations", {"email": "email", "role": "role", "name": "text", "expires_in_days": "days"}),
    ("POST", f"{HOME}/invitations", {"invitations": "rows", "role": "role", "notify": "flag"}),
    ("POST", f"{HOME}/invitations/preview", {"text": "text", "role": "role"}),
    ("POST", "/v1/invitations", {"email": "email", "expires_in_days": "days"}),
    ("POST", "/v1/keys", {"name": "text", "scopes": "scopes", "organization": "id"}),
    ("POST", "/v1/sync/plans", {"allow_gone": "days"}),
)
QUERIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (f"{HOME}/people", ("query", "status", "role", "cursor", "limit", "source", "last_active")),
    (f"{HOME}/people/export", ("query", "role", "format")),
    ("/v1/users", ("query", "status", "organization", "cursor", "limit")),
    ("/v1/deliveries", ("cursor", "state", "limit")),
    ("/v1/operations", ("cursor", "state", "limit", "organization", "target", "kind")),
    ("/v1/audit", ("cursor", "limit", "actor", "action", "target", "since", "until", "organization", "query")),
    ("/v1/audit/export", ("actor", "action", "target", "since", "until", "organization")),
    ("/v1/invitations", ("query", "status")),
    ("/v1/sync", ("limit",)),
    (f"{PAGES}/members", ("q", "status", "role", "cursor", "shown", "marked", "active", "source", "deactivated")),
    ("/users", ("q", "status", "cursor", "organization", "shown")),
    ("/deliveries", ("q", "state", "type", "person", "organization", "since", "until", "before")),
    ("/audit", ("q", "person", "since", "until", "action", "before", "organization")),
    ("/operations", ("state", "before")),
    ("/sync", ("after", "allow_gone", "row")),
    ("/palette", ("q", "at")),
    ("/", ("q",)),
)
PATHS = (
    "/v1/users/{}",
    "/v1/users/{}/sessions",
    "/v1/organizations/{}/people",
    "/v1/organizations/{}/people/export",
    HOME + "/members/{}/consequences",
    HOME + "/invitations/{}/timeline",
    HOME + "/invitations/{}/link",
    "/v1/operations/{}",
    "/v1/sync/plans/{}",
    "/users/{}",
    "/users/{}/details",
    "/organizations/{}/members",
    PAGES + "/members/{}",
    PAGES + "/invitations/{}/timeline",
    "/deliveries/{}",
    "/people/{}/story",
)
FORMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/users", ("email", "first_name", "last_name", "username", "clerk", "key")),
    ("/users/user_mate1/edit", ("first_name", "last_name", "username", "key")),
    ("/users/user_mate1/password", ("password", "key")),
    (f"{PAGES}/invitations", ("email", "role", "name", "key")),
    (f"{PAGES}/invitations/many", ("text", "role", "key")),
    (f"{PAGES}/members/user_mate2/role", ("role", "key")),
    (f"{PAGES}/members/bulk", ("member", "action", "role", "key")),
    ("/keys", ("name", "scope", "organization")),
    ("/deliveries/replay", ("delivery",)),
)
_RAW = (
    "%00",
    "%ED%A0%80",
    "%FF",
    "a%00b",
    "%E2%80%AE",
    "9" * 400,
    "-1",
    "1e400",
    "%0D%0A",
    "x" * 3_000,
    "",
    "%2F..%2F",
)
_CURSORS = (
    "5b39393939393939393939393939393939393939395d",
    "MTox",
    "1.%00",
    "-",
    "é",
    "5b6e756c6c2c5b22222c22222c22225d5d",
)


@dataclass(frozen=True)
class Asked:
    """One request. `bent` says what is hostile in it."""

    method: str
    path: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    bent: str

    @property
    def is_page(self) -> bool:
        """Whether it is for the console."""
        return not self.path.startswith("/v1/")


def make_request(choice: Choice) -> Asked:
    """Make one hostile request."""
    makers = (_with_body, _with_body, _with_body, _with_query, _with_path, _with_form)
    asked = choice.one_of(makers)(choice)
    if choice.one_of((False,) * 5 + (True,)):
        key = choice.one_of(("same", "\x7f", "é", "x" * 500, "a\tb", " "))
        headers = (*asked.headers, (b"idempotency-key", key.encode("latin-1")))
        return Asked(asked.method, asked.path, asked.body, headers, asked.bent)
    return asked


def _with_body(choice: Choice) -> Asked:
    method, path, fields = choice.one_of(BODIES)
    body = {name: False if kind == "off" else GOOD[kind] for name, kind in fields.items()}
    name = choice.one_of(tuple(fields))
    kind = fields[name]
    options = KINDS.get(kind) or _MANY.get(kind) or (KINDS["time"] if kind == "days" else KINDS["text"])
    body[name] = choice.one_of(options) if choice.one_of((True,) * 9 + (False,)) else make_value(choice)
    if choice.one_of((False,) * 15 + (True,)):
        body["\ud800"] = "extra"
    text = write(body)
    raw = choice.one_of((text.encode(),) * 20 + (b"\xff", b"", b"[", text.encode() + b"\0", b'{"a": NaN}'))
    return Asked(method, path, raw, ((b"content-type", b"application/json"),), f"{name}={write(body[name])[:60]}")


def _with_query(choice: Choice) -> Asked:
    path, names = choice.one_of(QUERIES)
    name = choice.one_of(names)
    value = choice.one_of((*_RAW, *_CURSORS) if name in ("cursor", "before", "after") else _RAW)
    return Asked("GET", f"{path}?{name}={quote(value, safe='%')}", b"", (), f"?{name}={value[:40]}")


def _with_path(choice: Choice) -> Asked:
    path = choice.one_of(PATHS)
    ids = tuple(quote(it, safe="") for it in IDS if isinstance(it, str) and it.isascii() and it) + _RAW[:5]
    id = choice.one_of(ids)
    return Asked("GET", path.format(id), b"", (), f"id {id[:40]}")


def _with_form(choice: Choice) -> Asked:
    path, names = choice.one_of(FORMS)
    good = {"email": "ann@example.com", "role": "org:member", "name": "Ann", "scope": "read", "action": "deactivate"}
    bad = choice.one_of(names)
    fields = {name: quote(good.get(name, "Maya")) for name in names} | {bad: choice.one_of(_RAW)}
    body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    headers = ((b"content-type", b"application/x-www-form-urlencoded"),)
    return Asked("POST", path, body, headers, f"{bad}={fields[bad][:40]}")
