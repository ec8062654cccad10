"""View models of the page layout: navigation and organization switcher."""

from collections.abc import Sequence

from msgspec import Struct

from instep.auth.principal import OrganizationAccess, Principal
from instep.core.i18n import Localizer

MAX_SWITCHER_ORGANIZATIONS = 12


"""How many organizations the switcher shows; the rest is found by searching."""


class AttentionSummary(Struct, frozen=True, kw_only=True):
    """What waits for a person: operations of this place and of all places, and parked deliveries.

    `notice` is what admins are told on every page.
    """

    operations: int = 0
    everywhere: int = 0
    parked: int = 0
    notice: str = ""


EMPTY_ATTENTION_SUMMARY = AttentionSummary()


def get_organization_path(access: OrganizationAccess) -> str:
    """The address of an organization's pages, by its slug where it has one."""
    return f"/organizations/{access.organization_slug or access.organization_id}"


class OrganizationLink(Struct, frozen=True, kw_only=True):
    """Somewhere a person can switch to."""

    name: str
    href: str
    is_current: bool = False


class NavigationItem(Struct, frozen=True, kw_only=True):
    """A page of the present place, for the navigation. `badge` counts what waits for a person there.

    A `key` names the badge, so that an open page can be told of another count.
    """

    name: str
    href: str
    icon: str
    is_current: bool = False
    badge: int = 0
    key: str = ""


class PageLayout(Struct, frozen=True, kw_only=True):
    """What surrounds a page: who is signed in, where they are, and where else they can go.

    `sections` are the pages of the present place, `installation` those above all places. `at` names the present
    place to the search; with `has_more_places` not all of them are in `places`. `attention` is where the badges and the
    notice are read again (for admins alone), `notice` what admins are told on every page, `may_mend` who may act on it.
    """

    person: str
    email: str | None = None
    image_url: str | None = None
    at: str = ""
    places: tuple[OrganizationLink, ...] = ()
    has_more_organizations: bool = False
    sections: tuple[NavigationItem, ...] = ()
    installation: tuple[NavigationItem, ...] = ()
    attention: str = ""
    notice: str = ""
    can_act_on_notice: bool = False

    @property
    def place(self) -> OrganizationLink | None:
        """The place that is shown now."""
        return next((place for place in self.places if place.is_current), None)


def build_instance_layout(
    principal: Principal,
    organizations: Sequence[OrganizationAccess],
    *,
    words: Localizer,
    here: str = "",
    waiting: AttentionSummary = EMPTY_ATTENTION_SUMMARY,
) -> PageLayout:
    """The frame without an organization. `here` is the page that is shown."""
    first = NavigationItem(name=words.gettext("Organizations"), href="/", icon="building-2", is_current=here == "/")
    return PageLayout(
        person=principal.name,
        email=principal.email,
        image_url=principal.image_url,
        places=tuple(build_organization_link(access, None) for access in organizations[:MAX_SWITCHER_ORGANIZATIONS]),
        has_more_organizations=len(organizations) > MAX_SWITCHER_ORGANIZATIONS,
        sections=() if principal.is_instance_admin else (first,),
        installation=_build_instance_navigation(principal, words, here, waiting),
        attention="/attention" if principal.is_instance_admin else "",
        notice=waiting.notice,
        can_act_on_notice=principal.is_instance_admin,
    )


def build_organization_layout(
    access: OrganizationAccess,
    organizations: Sequence[OrganizationAccess],
    *,
    words: Localizer,
    here: str,
    waiting: AttentionSummary = EMPTY_ATTENTION_SUMMARY,
) -> PageLayout:
    """The frame inside an organization; `here` is the section that is shown, such as `members`."""
    first = organizations[:MAX_SWITCHER_ORGANIZATIONS]
    known = any(other.organization_id == access.organization_id for other in first)
    others = first if known else (access, *first)
    return PageLayout(
        person=access.principal.name,
        email=access.principal.email,
        image_url=access.principal.image_url,
        at=access.organization_slug or access.organization_id,
        places=tuple(build_organization_link(other, access) for other in others),
        has_more_organizations=len(organizations) > MAX_SWITCHER_ORGANIZATIONS,
        sections=_build_organization_navigation(access, words, here, waiting),
        installation=_build_instance_navigation(access.principal, words, "", waiting),
        attention=f"{get_organization_path(access)}/attention" if access.can_manage else "",
        notice=waiting.notice,
        can_act_on_notice=access.principal.is_instance_admin,
    )


def _build_organization_navigation(
    access: OrganizationAccess, words: Localizer, here: str, waiting: AttentionSummary
) -> tuple[NavigationItem, ...]:
    _ = words.gettext
    sections = [("members", _("Members & Roles"), "users")]
    if access.can_manage:
        sections += [("operations", _("Operations"), "activity"), ("audit", _("Audit"), "scroll-text")]
    return tuple(
        NavigationItem(
            name=name,
            href=f"{get_organization_path(access)}/{key}",
            icon=icon,
            is_current=key == here,
            badge=waiting.operations if key == "operations" else 0,
            key=key if key == "operations" else "",
        )
        for key, name, icon in sections
    )


def _build_instance_navigation(
    principal: Principal, words: Localizer, here: str, waiting: AttentionSummary
) -> tuple[NavigationItem, ...]:
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
        NavigationItem(
            name=name,
            href=href,
            icon=icon,
            is_current=href == here,
            badge=badges.get(href, ("", 0))[1],
            key=badges.get(href, ("", 0))[0],
        )
        for href, name, icon in sections
    )


def build_organization_link(access: OrganizationAccess, current: OrganizationAccess | None) -> OrganizationLink:
    """An organization in the switcher."""
    return OrganizationLink(
        name=access.organization_name,
        href=f"{get_organization_path(access)}/members",
        is_current=current is not None and current.organization_id == access.organization_id,
    )
