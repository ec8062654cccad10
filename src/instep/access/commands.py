"""What the command palette offers: pages, organizations, people and actions that this reader may use. Pure."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from instep.access.frame import home_of
from instep.access.principal import Access, Principal
from instep.kit.html import Frame
from instep.kit.words import Words

MOST = 6  # of one group


class Command(Struct, frozen=True, kw_only=True):
    """One line of the palette. `href` is gone to, or with `is_dialog` shown over the open page.

    Without an address the page's own script does it: `theme` is chosen, the dialog `opens` is opened. `avatar`: shown
    as a person, `sign`: as an organization.
    """

    name: str
    icon: str
    detail: str = ""
    href: str = ""
    is_dialog: bool = False
    theme: str | None = None
    opens: str = ""
    keys: tuple[str, ...] = ()
    avatar: Literal["", "person", "place"] = ""
    image_url: str | None = None


class Group(Struct, frozen=True):
    """Lines of one kind, under a heading."""

    name: str
    commands: Sequence[Command]


def groups_of(
    asker: Access | Principal,
    frame: Frame,
    people: Sequence[Command],
    organizations: Sequence[Access],
    text: str,
    words: Words,
) -> list[Group]:
    """Everything that `text` means, by kind; without a text the pages and the actions."""
    _ = words.gettext
    places = [
        Command(name=it.organization_name, icon="building-2", href=f"{home_of(it)}/members", avatar="place")
        for it in organizations
    ]
    found = [
        Group(_("People"), people),
        Group(_("Organizations"), places),
        Group(_("Pages"), matching(_pages(frame), text)),
        Group(_("Actions"), matching(_actions(asker, words), text)),
    ]
    return [it for it in found if it.commands]


def matching(commands: Sequence[Command], text: str) -> list[Command]:
    """Those of whose name every word of a text is a part."""
    words = text.casefold().split()
    return [it for it in commands if all(word in it.name.casefold() for word in words)]


def _pages(frame: Frame) -> list[Command]:
    within = frame.place.name if frame.place else ""
    own = [Command(name=it.name, icon=it.icon, href=it.href, detail=within) for it in frame.sections]
    return own + [Command(name=it.name, icon=it.icon, href=it.href) for it in frame.installation]


def _actions(asker: Access | Principal, words: Words) -> list[Command]:
    _ = words.gettext
    principal = asker.principal if isinstance(asker, Access) else asker
    found = []
    if isinstance(asker, Access):
        home, within = home_of(asker), asker.organization_name
        if asker.may_act:
            found += [
                _dialog(_("Invite people"), "user-plus", f"{home}/invitations/new", within, ("i",)),
                _dialog(_("Invite many"), "users", f"{home}/invitations/many", within),
                Command(
                    name=_("Export members as CSV"),
                    icon="download",
                    href=f"{home}/members/export?format=csv",
                    detail=within,
                ),
            ]
        if asker.role is not None and principal.user_id is not None:
            found.append(_dialog(_("Leave organization"), "log-out", f"{home}/leave", within))
    if principal.is_instance_admin:
        found += [
            _dialog(_("New user"), "user-plus", "/users/new"),
            _dialog(_("New key"), "key-round", "/keys/new"),
        ]
    return [
        *found,
        Command(name=_("Theme: system"), icon="monitor", theme=""),
        Command(name=_("Theme: light"), icon="sun", theme="light"),
        Command(name=_("Theme: dark"), icon="moon", theme="dark"),
        Command(name=_("Keyboard shortcuts"), icon="circle-question-mark", opens="help", keys=("?",)),
    ]


def _dialog(name: str, icon: str, href: str, detail: str = "", keys: tuple[str, ...] = ()) -> Command:
    return Command(name=name, icon=icon, href=href, detail=detail, is_dialog=True, keys=keys)
