"""View models of the page layout: navigation and organization switcher."""

from collections.abc import Sequence

from msgspec import Struct

from instep.auth.principal import OrganizationAccess, Principal
from instep.core.i18n import Localizer

MAX_SWITCHER_ORGANIZATIONS = 12  # the switcher finds further ones by search


class AttentionSummary(Struct, frozen=True, kw_only=True):
    """Numbers of operations that need attention, in the organization and in all, and of failed deliveries.

    `notice` is a sentence that every page shows to admins.
    """

    operations: int = 0
    all_operations: int = 0
    failed_deliveries: int = 0
    notice: str = ""


EMPTY_ATTENTION_SUMMARY = AttentionSummary()


def get_organization_path(access: OrganizationAccess) -> str:
    """Return the path of an organization's pages, with its slug if it has one."""
    return f"/organizations/{access.organization_slug or access.organization_id}"


class OrganizationLink(Struct, frozen=True, kw_only=True):
    """An organization in the switcher."""

    name: str
    href: str
    is_current: bool = False


class NavigationItem(Struct, frozen=True, kw_only=True):
    """A page in the navigation. `badge` counts what needs attention; `key` identifies the badge for updates."""

    name: str
    href: str
    icon: str
    is_current: bool = False
    badge: int = 0
    key: str = ""


class PageLayout(Struct, frozen=True, kw_only=True):
    """The layout around a page: the signed-in person, the navigation and the organization switcher.

    `sections` are the pages of the current organization, `installation` those of the whole installation. `at` is the
    slug or id of the current organization; `has_more_organizations`: `places` is not complete. `attention` is the path
    that badges and notice are reloaded from (admins only).
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
        """The current organization."""
        return next((each for each in self.places if each.is_current), None)


def build_instance_layout(
    principal: Principal,
    organizations: Sequence[OrganizationAccess],
    *,
    localizer: Localizer,
    section: str = "",
    attention: AttentionSummary = EMPTY_ATTENTION_SUMMARY,
) -> PageLayout:
    """Return the layout of the pages of the whole installation. `section` is the path of the current page."""
    first = NavigationItem(
        name=localizer.gettext("Organizations"), href="/", icon="building-2", is_current=section == "/"
    )
    return PageLayout(
        person=principal.name,
        email=principal.email,
        image_url=principal.image_url,
        places=tuple(build_organization_link(access, None) for access in organizations[:MAX_SWITCHER_ORGANIZATIONS]),
        has_more_organizations=len(organizations) > MAX_SWITCHER_ORGANIZATIONS,
        sections=() if principal.is_instance_admin else (first,),
        installation=_build_instance_navigation(principal, localizer, section, attention),
        attention="/attention" if principal.is_instance_admin else "",
        notice=attention.notice,
        can_act_on_notice=principal.is_instance_admin,
    )


def build_organization_layout(
    access: OrganizationAccess,
    organizations: Sequence[OrganizationAccess],
    *,
    localizer: Localizer,
    section: str,
    attention: AttentionSummary = EMPTY_ATTENTION_SUMMARY,
) -> PageLayout:
    """Return the layout of an organization's pages; `section` is the key of the current page, such as `members`."""
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
        sections=_build_organization_navigation(access, localizer, section, attention),
        installation=_build_instance_navigation(access.principal, localizer, "", attention),
        attention=f"{get_organization_path(access)}/attention" if access.can_manage else "",
        notice=attention.notice,
        can_act_on_notice=access.principal.is_instance_admin,
    )


def _build_organization_navigation(
    access: OrganizationAccess, localizer: Localizer, section: str, attention: AttentionSummary
) -> tuple[NavigationItem, ...]:
    _ = localizer.gettext
    sections = [("members", _("Members & Roles"), "users")]
    if access.can_manage:
        sections += [("operations", _("Operations"), "activity"), ("audit", _("Audit log"), "scroll-text")]
    return tuple(
        NavigationItem(
            name=name,
            href=f"{get_organization_path(access)}/{key}",
            icon=icon,
            is_current=key == section,
            badge=attention.operations if key == "operations" else 0,
            key=key if key == "operations" else "",
        )
        for key, name, icon in sections
    )


def _build_instance_navigation(
    principal: Principal, localizer: Localizer, section: str, attention: AttentionSummary
) -> tuple[NavigationItem, ...]:
    """Return the navigation of the whole installation, for instance admins."""
    if not principal.is_instance_admin:
        return ()
    _ = localizer.gettext
    sections = [
        ("/", _("Organizations"), "building-2"),
        ("/users", _("Users"), "users"),
        ("/invitations", _("Application invitations"), "mail"),
        ("/keys", _("API keys"), "key-round"),
        ("/operations", _("All operations"), "activity"),
        ("/audit", _("Full audit log"), "scroll-text"),
        ("/sync", _("Sync"), "refresh-cw"),
        ("/deliveries", _("Deliveries"), "inbox"),
    ]
    badges = {
        "/operations": ("everywhere", attention.all_operations),
        "/deliveries": ("parked", attention.failed_deliveries),
    }
    return tuple(
        NavigationItem(
            name=name,
            href=href,
            icon=icon,
            is_current=href == section,
            badge=badges.get(href, ("", 0))[1],
            key=badges.get(href, ("", 0))[0],
        )
        for href, name, icon in sections
    )


def build_organization_link(access: OrganizationAccess, current: OrganizationAccess | None) -> OrganizationLink:
    """Return an entry of the organization switcher."""
    return OrganizationLink(
        name=access.organization_name,
        href=f"{get_organization_path(access)}/members",
        is_current=current is not None and current.organization_id == access.organization_id,
    )
