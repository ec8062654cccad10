"""Who may change whom, what may be written, and failures in words that a person can use. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from instep.access.principal import Principal, gives_rights
from instep.identity import refusals
from instep.identity.addresses import canonical, checked_email
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import CONFLICT, FORBIDDEN, INVALID, NOT_FOUND, UNAVAILABLE, Refused
from instep.kit.said import said
from instep.mirror.people import PersonRow

Policy = Literal["reinvite", "verify", "force"]
Removal = Literal["delete", "ban", "keep"]
NOT_SYNCED = said("Failed to sync with Clerk authentication system")
NOT_SYNCED_CODE = "clerk_sync_failed"
RIGHTS_BY_KEY = said("An API key can't make instance admins, nor act on their accounts. Nothing was changed.")
NO_BANS = said("Your Clerk plan has no bans. Deactivated here, and signed out everywhere.")
PASSWORD_UNKNOWN = "We do not know whether the password was changed; set it again."  # noqa: S105 (a sentence)
OWN = frozenset({"first_name", "last_name"})
LED = OWN | {"username"}
LONGEST = 256  # characters of a name
MOST_METADATA = 8_192  # bytes, as Clerk has it
MOST_ATTRIBUTES = 65_536  # bytes
ABOUT_CODE = frozenset({"wrong_code", "code_expired", "code_failed", "code_lost"})
_SAID = frozenset({"managed_by_directory", "plan"})


class Tie(Struct, frozen=True, kw_only=True):
    """An organization that the asker and the person both belong to. `is_admin`: the asker is one there; `theirs` is the
    person's role.
    """

    organization_id: str
    is_admin: bool
    theirs: str


class Rights(Struct, frozen=True, kw_only=True):
    """What the asker may do with a person.

    `shared`: the organizations that both belong to; `led`: those of them in which the asker is above the person.
    """

    is_admin: bool = False
    is_self: bool = False
    shared: frozenset[str] = frozenset()
    led: frozenset[str] = frozenset()

    @property
    def may_see(self) -> bool:
        """Whether the asker may know that this person is here."""
        return self.is_admin or self.is_self or bool(self.shared)


class Edit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of a person: None leaves a field, an empty text clears it; objects are merged, None takes away."""

    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    email: str | None = None
    public_metadata: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What is to be changed, by name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


def rights_of(principal: Principal, person_id: str, ties: Sequence[Tie], *, is_above_all: bool) -> Rights:
    """What a principal may do with a person. `is_above_all`: the person is an instance admin.

    An organization's admin is above its members, and no lower than its other admins; nobody there is above an
    instance admin.
    """
    led = () if is_above_all else (tie.organization_id for tie in ties if tie.is_admin)
    return Rights(
        is_admin=principal.is_instance_admin,
        is_self=principal.user_id == person_id,
        shared=frozenset(tie.organization_id for tie in ties),
        led=frozenset(led),
    )


def require_admin(rights: Rights, doing: str) -> None:
    """Raises Refused unless the asker is an instance admin."""
    if not rights.is_admin:
        raise Refused(said("Only instance admins can %(doing)s.", doing=doing), code="forbidden", status=FORBIDDEN)


def require_not_self(rights: Rights, doing: str) -> None:
    """Nobody locks themselves out."""
    if rights.is_self:
        raise Refused(said("You can't %(doing)s yourself.", doing=doing), code="yourself", status=CONFLICT)


def require_edit(rights: Rights, fields: Collection[str]) -> None:
    """Raises Refused for the first of these fields that the asker may not change.

    Everyone changes their own names; an organization's admin the names and the username of those below them. Public
    metadata, attributes, addresses and passwords decide who someone is everywhere: instance admins only.
    """
    allowed = LED if rights.led else OWN if rights.is_self else frozenset[str]()
    for field in sorted(set(fields) - allowed):
        if not rights.is_admin:
            words = "change this person" if not allowed else f"change {field.replace('_', ' ')}"
            raise Refused(said("You may not %(words)s.", words=words), code="forbidden", status=FORBIDDEN, field=field)


def require_key_may(
    principal: Principal, fields: Mapping[str, Any], *, is_above_all: bool, admins: Collection[str]
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
    if gives_rights(metadata) or (is_above_all and isinstance(metadata, dict) and "role" in metadata):
        field = "public_metadata"
    elif isinstance(email, str) and (is_above_all or canonical(email) in admins):
        field = "email"
    elif is_above_all and fields.keys() & {"password", "account"}:
        field = "password" if "password" in fields else None
    else:
        return
    raise Refused(RIGHTS_BY_KEY, code="rights_by_key", status=FORBIDDEN, field=field)


def not_found() -> Refused:
    """There is no such person, or not one whom the asker may know of."""
    return Refused("User not found.", code="user_not_found", status=NOT_FOUND)


def require_live(person: PersonRow | None) -> PersonRow:
    """Raises Refused for someone who is deleted."""
    if person is None:
        raise not_found()
    if person.is_deleted:
        raise Refused(
            said("%(name)s is deleted. Restore them first.", name=person.name), code="deleted", status=CONFLICT
        )
    return person


def require_others(sole: Mapping[str, str]) -> None:
    """The last-admin rule. `sole`: organizations in which this person is the only admin."""
    if sole:
        names = ", ".join(sorted(sole.values()))
        words = said("%(why)s (%(names)s)", why=refusals.LAST_ADMIN, names=names)
        raise Refused(words, code="last_admin", status=CONFLICT)


def checked(edit: Edit) -> Edit:
    """An edit as it will be made. Raises Refused, before anything is tried, for what can't be."""
    names = {name: checked_name(getattr(edit, name), name) for name in ("first_name", "last_name", "username")}
    _require_size(edit.public_metadata, "public_metadata", MOST_METADATA)
    _require_size(edit.attributes, "attributes", MOST_ATTRIBUTES)
    email = checked_email(edit.email) if edit.email is not None else None
    return msgspec.structs.replace(edit, **names, email=email)


def checked_name(text: str | None, field: str) -> str | None:
    """A name without the space around it. Raises Refused for what no name is."""
    if text is None:
        return None
    name = text.strip()
    if len(name) > LONGEST or not name.isprintable():
        words = said(
            "A %(value)s has up to %(most)s characters that can be seen.",
            value=field.replace("_", " "),
            most=LONGEST,
        )
        raise Refused(words, code="invalid_name", field=field)
    return name


def _require_size(value: dict[str, Any] | None, field: str, most: int) -> None:
    try:
        encoded = msgspec.json.encode(value or {})
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            said("%(field)s can't be kept: %(error)s", field=field, error=error), code="invalid_metadata", field=field
        ) from error
    if len(encoded) > most or b"\\u0000" in encoded:
        words = said("%(field)s must have %(most)s bytes or fewer, and no NUL character.", field=field, most=most)
        raise Refused(words, code="invalid_metadata", field=field)


def email_taken(email: str) -> Refused:
    """Somebody else has this address."""
    words = said("Someone else already uses %(email)s. Nothing was changed.", email=email)
    return Refused(words, code="email_taken", status=CONFLICT, field="email")


def username_taken(username: str) -> Refused:
    """Somebody else has this username."""
    words = said("Someone else already uses the username %(username)s. Nothing was changed.", username=username)
    return Refused(words, code="username_taken", status=CONFLICT, field="username")


def not_synced(refusal: ProviderRefused, intent: Mapping[str, Any], *, whom: str) -> Refused:
    """Clerk's refusal of a change of a person; the database was left as it was. `intent` is what was asked for."""
    wanted = intent.get("profile", intent)
    if refusal.code == "form_identifier_exists":
        is_email = wanted.get("email") and refusal.param != "username"
        taken = email_taken(wanted["email"]) if is_email else username_taken(wanted.get("username") or "")
        return Refused(taken.words, code=taken.code, status=taken.status, field=taken.field, refusal=refusal)
    if refusal.code in ABOUT_CODE:
        return Refused(str(refusal), code=refusal.code, status=refusal.status or INVALID, field="code")
    found = refusals.in_words(refusal, whom=whom)
    if found.code in _SAID:
        return found
    status = CONFLICT if found.status == NOT_FOUND else found.status
    return Refused(
        said("%(what)s: %(why)s", what=NOT_SYNCED, why=found.words),
        code=NOT_SYNCED_CODE,
        status=status,
        field=refusal.param,
        refusal=refusal,
    )


def password_refused(refusal: ProviderRefused, *, whom: str) -> Refused:
    """Clerk's refusal of a password, by its own rules where it is that."""
    if refusal.code == "password_not_set":
        return Refused(str(refusal), code=refusal.code, status=UNAVAILABLE, refusal=refusal)
    if "password" in refusal.code or refusal.param == "password":
        words = said("Clerk does not take this password: %(refusal)s", refusal=refusal)
        return Refused(words, code="password_refused", field="password", refusal=refusal)
    return not_synced(refusal, {}, whom=whom)
