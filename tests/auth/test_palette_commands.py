"""Commands of the palette: only those that its reader may use."""

from collections.abc import Sequence

import pytest

from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess, Principal
from instep.console.layout import build_instance_layout, build_organization_layout
from instep.console.palette import PaletteCommand, PaletteGroup, build_palette_groups, filter_commands
from instep.core.i18n import Localizer
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE

MAYA = Principal(kind="person", name="Maya Cohen", user_id="usr_1", clerk_user_id="user_1")


def access(principal: Principal = MAYA, role: str | None = ADMIN_ROLE) -> OrganizationAccess:
    return OrganizationAccess(
        principal=principal,
        organization_id="orn_1",
        organization_clerk_id="org_1",
        organization_name="Northwind",
        organization_slug="northwind",
        role=role,
    )


def list_commands(
    reader: OrganizationAccess | Principal, text: str = "", people: Sequence[PaletteCommand] = ()
) -> list[PaletteGroup]:
    organizations = [reader] if isinstance(reader, OrganizationAccess) else []
    frame = (
        build_organization_layout(reader, organizations, localizer=Localizer(), section="")
        if isinstance(reader, OrganizationAccess)
        else build_instance_layout(reader, [], localizer=Localizer())
    )
    return build_palette_groups(reader, frame, people, organizations if text else [], text, Localizer())


def list_names(reader: OrganizationAccess | Principal, text: str = "") -> dict[str, list[str]]:
    return {group.name: [it.name for it in group.commands] for group in list_commands(reader, text)}


ANYONES = ["Theme: system", "Theme: light", "Theme: dark", "Keyboard shortcuts"]


@pytest.mark.parametrize(
    ("reader", "pages", "actions"),
    [
        (
            access(),
            ["Members & Roles", "Operations", "Audit log"],
            ["Invite people", "Invite many", "Export members as CSV", "Leave organization"],
        ),
        (access(role=MEMBER_ROLE), ["Members & Roles"], ["Leave organization"]),
        (MAYA, ["Organizations"], []),
    ],
    ids=["admin", "member", "nowhere"],
)
def test_pages_and_actions_depend_on_the_readers_rights(
    reader: OrganizationAccess | Principal, pages: list[str], actions: list[str]
) -> None:
    assert list_names(reader) == {"Pages": pages, "Actions": [*actions, *ANYONES]}


def test_an_instance_admin_has_the_commands_of_the_installation_too() -> None:
    within = list_names(access(BREAK_GLASS_PRINCIPAL, role=None))
    assert "Leave organization" not in within["Actions"]
    assert {"Invite people", "New user", "New API key"} <= set(within["Actions"])
    assert "Full audit log" in within["Pages"]
    assert "Invite people" not in list_names(BREAK_GLASS_PRINCIPAL)["Actions"]


def test_every_word_must_be_in_a_name() -> None:
    assert list_names(access(), "INV many") == {"Organizations": ["Northwind"], "Actions": ["Invite many"]}
    lines = [PaletteCommand(name="Members & Roles", icon="users"), PaletteCommand(name="Audit", icon="users")]
    assert filter_commands(lines, "roles MEM") == lines[:1]
    assert filter_commands(lines, "roles x") == []


def test_people_come_first() -> None:
    found = list_commands(access(), "zzz", people=[PaletteCommand(name="Zoe", icon="users", href="/users/usr_2")])
    assert [group.name for group in found] == ["People", "Organizations"]
