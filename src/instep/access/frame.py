"""The frame around every page of the console: who is signed in, where they are, where else they can go. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from instep.access.principal import Access, Principal
from instep.kit.html import Frame, Place, Section
from instep.kit.words import Words

SHOWN = 12


"""How many organizations the switcher shows; the rest is found by searching."""


class Waiting(Struct, frozen=True, kw_only=True):
    """What waits for a person: operations of this place and of all places, and parked deliveries.

    `notice` is what admins are told on every page.
    """

    operations: int = 0
    everywhere: int = 0
    parked: int = 0
    notice: str = ""


NOTHING = Waiting()


def home_of(access: Access) -> str:
    """The address of an organization's pages, by its slug where it has one."""
    return f"/organizations/{access.organization_slug or access.organization_id}"


def frame_of(
    principal: Principal, organizations: Sequence[Access], *, words: Words, here: str = "", waiting: Waiting = NOTHING
) -> Frame:
    """The frame without an organization. `here` is the page that is shown."""
    first = Section(name=words.gettext("Organizations"), href="/", icon="building-2", is_current=here == "/")
    return Frame(
        person=principal.name,
        email=principal.email,
        image_url=principal.image_url,
        places=tuple(place_of(access, None) for access in organizations[:SHOWN]),
        has_more_places=len(organizations) > SHOWN,
        sections=() if principal.is_instance_admin else (first,),
        installation=_installation(principal, words, here, waiting),
        attention="/attention" if principal.is_instance_admin else "",
        notice=waiting.notice,
        may_mend=principal.is_instance_admin,
    )


def frame_within(
    access: Access, organizations: Sequence[Access], *, words: Words, here: str, waiting: Waiting = NOTHING
) -> Frame:
    """The frame inside an organization; `here` is the section that is shown, such as `members`."""
    first = organizations[:SHOWN]
    known = any(other.organization_id == access.organization_id for other in first)
    others = first if known else (access, *first)
    return Frame(
        person=access.principal.name,
        email=access.principal.email,
        image_url=access.principal.image_url,
        at=access.organization_slug or access.organization_id,
        places=tuple(place_of(other, access) for other in others),
        has_more_places=len(organizations) > SHOWN,
        sections=_sections(access, words, here, waiting),
        installation=_installation(access.principal, words, "", waiting),
        attention=f"{home_of(access)}/attention" if access.may_act else "",
        notice=waiting.notice,
        may_mend=access.principal.is_instance_admin,
    )


def _sections(access: Access, words: Words, here: str, waiting: Waiting) -> tuple[Section, ...]:
    _ = words.gettext
    sections = [("members", _("Members & Roles"), "users")]
    if access.may_act:
        sections += [("operations", _("Operations"), "activity"), ("audit", _("Audit"), "scroll-text")]
    return tuple(
        Section(
            name=name,
            href=f"{home_of(access)}/{key}",
            icon=icon,
            is_current=key == here,
            badge=waiting.operations if key == "operations" else 0,
            key=key if key == "operations" else "",
        )
        for key, name, icon in sections
    )


def _installation(principal: Principal, words: Words, here: str, waiting: Waiting) -> tuple[Section, ...]:
    """The pages above all organizations, for those who may see every one of them."""
    if not principal.is_instance_admin:
        return ()
    _ = words.gettext
    sections = [
        ("/", _("Organizations"), "building-2"),
        ("/users", _("Users"), "users"),
        ("/invitations", _("Application invitations"), "mail"),
        ("/keys", _("Keys"), "key-round"),
        ("/operations", _("All operations"), "activity"),
        ("/audit", _("Whole audit"), "scroll-text"),
        ("/sync", _("Sync"), "refresh-cw"),
        ("/deliveries", _("Deliveries"), "inbox"),
    ]
    badges = {"/operations": ("everywhere", waiting.everywhere), "/deliveries": ("parked", waiting.parked)}
    return tuple(
        Section(
            name=name,
            href=href,
            icon=icon,
            is_current=href == here,
            badge=badges.get(href, ("", 0))[1],
            key=badges.get(href, ("", 0))[0],
        )
        for href, name, icon in sections
    )


def place_of(access: Access, current: Access | None) -> Place:
    """An organization in the switcher."""
    return Place(
        name=access.organization_name,
        href=f"{home_of(access)}/members",
        is_current=current is not None and current.organization_id == access.organization_id,
    )
