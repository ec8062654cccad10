"""What the pages say of a person: where they stand, what is known, and what may be done. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from instep.identity.addresses import displayed
from instep.kit.signs import Status
from instep.kit.words import When, Words
from instep.profiles.profile import Profile


class Deed(Struct, frozen=True, kw_only=True):
    """Something that may be done with a person."""

    label: str
    icon: str
    href: str
    is_destructive: bool = False


def status(key: str, words: Words) -> Status:
    """Where a person stands."""
    _ = words.gettext
    known = {
        "active": Status(_("Active"), "circle-check", "good"),
        "deactivated": Status(_("Deactivated"), "circle-minus", "quiet"),
        "banned": Status(_("Banned"), "ban", "bad"),
        "deprovisioned": Status(_("Deprovisioned"), "ban", "bad"),
        "deleted": Status(_("Deleted"), "trash-2", "quiet"),
        "local": Status(_("Without a Clerk account"), "database", "info"),
    }
    return known[key]


class Place(Struct, frozen=True, kw_only=True):
    """An organization of a person."""

    name: str
    href: str
    role: str
    status: str


def deeds(it: Profile, at: str, words: Words) -> tuple[Deed, ...]:
    """What may be done with this person, for whoever sees all of them; only the names for the others."""
    _ = words.gettext
    if it.person.is_deleted:
        restore = Deed(label=_("Restore"), icon="undo-2", href=f"{at}/restore")
        return (restore,) if it.is_whole else ()
    edit = Deed(label=_("Edit profile"), icon="pencil", href=f"{at}/edit")
    if not it.is_whole:
        return (edit,)
    email = Deed(label=_("Change e-mail"), icon="mail", href=f"{at}/email")
    is_out = it.person.is_banned or not it.person.is_active
    unban = Deed(label=_("Let in again"), icon="user-check", href=f"{at}/unban")
    ban = Deed(label=_("Ban"), icon="ban", href=f"{at}/ban", is_destructive=True)
    delete = Deed(label=_("Delete"), icon="trash-2", href=f"{at}/delete", is_destructive=True)
    password = Deed(label=_("Set password"), icon="key-round", href=f"{at}/password")
    of_clerk = (password,) if it.person.clerk_id else ()
    return (edit, email, *of_clerk, unban if is_out else ban, delete)


class PersonView(Struct, frozen=True, kw_only=True):
    """A person in words; `facts` are what else is known, by name; `ids` can be copied."""

    id: str
    name: str
    email: str
    image_url: str | None
    status: Status
    is_verified: bool
    places: tuple[Place, ...]
    facts: tuple[tuple[str, str], ...]
    times: tuple[tuple[str, When], ...]
    ids: tuple[tuple[str, str], ...]
    deeds: tuple[Deed, ...]
    href: str
    joined: When
    last_active: When | None


def person_view(it: Profile, *, at: str, roles: Mapping[str, str], now: int, words: Words) -> PersonView:
    """A person; `at` is the address of their page."""
    _, person = words.gettext, it.person
    times = [
        (_("Joined"), person.joined_at),
        (_("Last sign-in"), person.last_sign_in_at),
        (_("Last active"), person.last_active_at),
        (_("Deactivated"), person.deactivated_at),
        (_("Deleted"), person.deleted_at),
    ]
    facts = [(_("Username"), person.username), (_("Role in the application"), it.role if it.is_whole else None)]
    ids = [(_("instep's id"), person.id), (_("Clerk's id"), person.clerk_id)]
    if it.is_whole:
        ids.append((_("External id"), person.external_id))
    return PersonView(
        id=person.id,
        name=person.name,
        email=displayed(person.email),
        image_url=person.image_url,
        status=status(it.status, words),
        is_verified=person.is_email_verified,
        places=tuple(
            Place(
                name=place.name,
                href=f"/organizations/{place.slug or place.organization_id}/members",
                role=roles.get(place.role, place.role),
                status=place_status(place.status, words),
            )
            for place in it.belongings
        ),
        facts=tuple((name, text) for name, text in facts if text),
        times=tuple((name, words.ago(time, now)) for name, time in times if time),
        ids=tuple((name, text) for name, text in ids if text),
        deeds=deeds(it, at, words),
        href=at,
        joined=words.ago(person.joined_at, now),
        last_active=words.ago(person.last_active_at, now) if person.last_active_at else None,
    )


def place_status(key: str, words: Words) -> str:
    """Return what to say of a membership that is not an active one; empty for an active one."""
    _ = words.gettext
    known = {"active": "", "banned": _("Banned"), "deprovisioned": _("Deprovisioned")}
    return known.get(key, _("Deactivated"))
