"""The frame around every page of the console: who is signed in, where they are, where else they can go. Pure."""

from collections.abc import Sequence

from instep.access.principal import Access, Principal
from instep.kit.html import Frame, Place, Section
from instep.kit.words import Words

SHOWN = 12
"""How many organizations the switcher shows; the rest is found by searching."""


def home_of(access: Access) -> str:
    """The address of an organization's pages, by its slug where it has one."""
    return f"/organizations/{access.organization_slug or access.organization_id}"


def frame_of(
    principal: Principal, organizations: Sequence[Access], *, words: Words, here: str = "", attention: int = 0
) -> Frame:
    """The frame without an organization. `here` is the page that is shown; `attention` counts what waits."""
    first = Section(name=words.gettext("Organizations"), href="/", icon="building-2", is_current=here == "/")
    return Frame(
        person=principal.name,
        email=principal.email,
        image_url=principal.image_url,
        places=tuple(place_of(access, None) for access in organizations[:SHOWN]),
        has_more_places=len(organizations) > SHOWN,
        sections=() if principal.is_instance_admin else (first,),
        installation=_installation(principal, words, here, attention),
    )


def frame_within(
    access: Access, organizations: Sequence[Access], *, words: Words, here: str, attention: int = 0
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
        sections=_sections(access, words, here, attention),
        installation=_installation(access.principal, words, "", 0),
    )


def _sections(access: Access, words: Words, here: str, attention: int) -> tuple[Section, ...]:
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
            badge=attention if key == "operations" else 0,
        )
        for key, name, icon in sections
    )


def _installation(principal: Principal, words: Words, here: str, attention: int) -> tuple[Section, ...]:
    """The pages above all organizations, for those who may see every one of them."""
    if not principal.is_instance_admin:
        return ()
    _ = words.gettext
    sections = [
        ("/", _("Organizations"), "building-2"),
        ("/users", _("Users"), "users"),
        ("/keys", _("Keys"), "key-round"),
        ("/operations", _("All operations"), "activity"),
        ("/audit", _("Whole audit"), "scroll-text"),
    ]
    return tuple(
        Section(
            name=name,
            href=href,
            icon=icon,
            is_current=href == here,
            badge=attention if href == "/operations" else 0,
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
