"""What the palette offers is what its reader may do, and nothing else."""

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


def offered(
    asker: OrganizationAccess | Principal, text: str = "", people: Sequence[PaletteCommand] = ()
) -> list[PaletteGroup]:
    within = isinstance(asker, OrganizationAccess)
    frame = (
        build_organization_layout(asker, [asker], localizer=Localizer(), section="")
        if within
        else build_instance_layout(asker, [], localizer=Localizer())
    )
    return build_palette_groups(asker, frame, people, [asker] if within and text else [], text, Localizer())


def names(asker: OrganizationAccess | Principal, text: str = "") -> dict[str, list[str]]:
    return {group.name: [it.name for it in group.commands] for group in offered(asker, text)}


ANYONES = ["Theme: system", "Theme: light", "Theme: dark", "Keyboard shortcuts"]


@pytest.mark.parametrize(
    ("asker", "pages", "actions"),
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
def test_pages_and_actions_are_those_of_the_reader(
    asker: OrganizationAccess | Principal, pages: list[str], actions: list[str]
) -> None:
    assert names(asker) == {"Pages": pages, "Actions": [*actions, *ANYONES]}


def test_an_instance_admin_has_the_installations_own_too() -> None:
    within = names(access(BREAK_GLASS_PRINCIPAL, role=None))
    assert "Leave organization" not in within["Actions"]
    assert {"Invite people", "New user", "New API key"} <= set(within["Actions"])
    assert "Full audit log" in within["Pages"]
    assert "Invite people" not in names(BREAK_GLASS_PRINCIPAL)["Actions"]


def test_every_word_must_be_in_a_name() -> None:
    assert names(access(), "INV many") == {"Organizations": ["Northwind"], "Actions": ["Invite many"]}
    lines = [PaletteCommand(name="Members & Roles", icon="users"), PaletteCommand(name="Audit", icon="users")]
    assert filter_commands(lines, "roles MEM") == lines[:1]
    assert filter_commands(lines, "roles x") == []


def test_people_come_first() -> None:
    found = offered(access(), "zzz", people=[PaletteCommand(name="Zoe", icon="users", href="/users/usr_2")])
    assert [group.name for group in found] == ["People", "Organizations"]
