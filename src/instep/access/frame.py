"""The frame around every page of the console: who is signed in, where they are, where else they can go. Pure."""

from collections.abc import Sequence

from instep.access.principal import Access, Principal
from instep.kit.html import Frame, Place, Section
from instep.kit.words import Words


def home_of(access: Access) -> str:
    """The address of an organization's pages, by its slug where it has one."""
    return f"/organizations/{access.organization_slug or access.organization_id}"


def frame_of(principal: Principal, organizations: Sequence[Access], *, words: Words, here: str = "") -> Frame:
    """The frame without an organization: the list of them. `here` is the section that is shown."""
    return Frame(
        person=principal.name,
        email=principal.email,
        image_url=principal.image_url,
        places=tuple(_place(access, None) for access in organizations),
        sections=(Section(name=words.gettext("Organizations"), href="/", icon="building-2", is_current=here == "/"),),
    )


def frame_within(access: Access, organizations: Sequence[Access], *, words: Words, here: str) -> Frame:
    """The frame inside an organization; `here` is the section that is shown, such as `members`."""
    home = home_of(access)
    known = any(other.organization_id == access.organization_id for other in organizations)
    others = organizations if known else (access, *organizations)
    sections = [("members", words.gettext("Members & Roles"), "users")]
    return Frame(
        person=access.principal.name,
        email=access.principal.email,
        image_url=access.principal.image_url,
        places=tuple(_place(other, access) for other in others),
        sections=tuple(
            Section(name=name, href=f"{home}/{key}", icon=icon, is_current=key == here) for key, name, icon in sections
        ),
    )


def _place(access: Access, current: Access | None) -> Place:
    return Place(
        name=access.organization_name,
        href=f"{home_of(access)}/members",
        is_current=current is not None and current.organization_id == access.organization_id,
    )
