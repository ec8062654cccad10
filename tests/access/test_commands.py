"""What the palette offers is what its reader may do, and nothing else."""

from collections.abc import Sequence

import pytest

from instep.access.commands import Command, Group, groups_of, matching
from instep.access.frame import frame_of, frame_within
from instep.access.principal import BREAK_GLASS, Access, Principal
from instep.identity.model import ADMIN, MEMBER
from instep.kit.words import Words

MAYA = Principal(kind="person", name="Maya Cohen", user_id="usr_1", clerk_user_id="user_1")


def access(principal: Principal = MAYA, role: str | None = ADMIN) -> Access:
    return Access(
        principal=principal,
        organization_id="orn_1",
        organization_clerk_id="org_1",
        organization_name="Northwind",
        organization_slug="northwind",
        role=role,
    )


def offered(asker: Access | Principal, text: str = "", people: Sequence[Command] = ()) -> list[Group]:
    within = isinstance(asker, Access)
    frame = frame_within(asker, [asker], words=Words(), here="") if within else frame_of(asker, [], words=Words())
    return groups_of(asker, frame, people, [asker] if within and text else [], text, Words())


def names(asker: Access | Principal, text: str = "") -> dict[str, list[str]]:
    return {group.name: [it.name for it in group.commands] for group in offered(asker, text)}


ANYONES = ["Theme: system", "Theme: light", "Theme: dark", "Keyboard shortcuts"]


@pytest.mark.parametrize(
    ("asker", "pages", "actions"),
    [
        (
            access(),
            ["Members & Roles", "Operations", "Audit"],
            ["Invite people", "Invite many", "Export members as CSV", "Leave organization"],
        ),
        (access(role=MEMBER), ["Members & Roles"], ["Leave organization"]),
        (MAYA, ["Organizations"], []),
    ],
    ids=["admin", "member", "nowhere"],
)
def test_pages_and_actions_are_those_of_the_reader(
    asker: Access | Principal, pages: list[str], actions: list[str]
) -> None:
    assert names(asker) == {"Pages": pages, "Actions": [*actions, *ANYONES]}


def test_an_instance_admin_has_the_installations_own_too() -> None:
    within = names(access(BREAK_GLASS, role=None))
    assert "Leave organization" not in within["Actions"]
    assert {"Invite people", "New user", "New key"} <= set(within["Actions"])
    assert "Whole audit" in within["Pages"]
    assert "Invite people" not in names(BREAK_GLASS)["Actions"]


def test_every_word_must_be_in_a_name() -> None:
    assert names(access(), "INV many") == {"Organizations": ["Northwind"], "Actions": ["Invite many"]}
    lines = [Command(name="Members & Roles", icon="users"), Command(name="Audit", icon="users")]
    assert matching(lines, "roles MEM") == lines[:1]
    assert matching(lines, "roles x") == []


def test_people_come_first() -> None:
    found = offered(access(), "zzz", people=[Command(name="Zoe", icon="users", href="/users/usr_2")])
    assert [group.name for group in found] == ["People", "Organizations"]
