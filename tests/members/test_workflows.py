"""Every change, interrupted at any point, is finished once, and both sides end in sync."""

from itertools import count

import pytest

from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.operations.workflow import Operation
from tests.members.firms import (
    ADA,
    BOB,
    DAN,
    access_of,
    furnish,
    in_clerk,
    is_banned,
    member,
    members_of,
    mortal,
    open_sessions,
    operations,
    recover,
    sign_in,
    status_and_role,
)
from tests.support.crash import EXHAUSTIVE, seconds
from tests.support.world import Firm, make_firm

pytestmark = pytest.mark.anyio

Side = tuple[object, ...]


class Scenario:
    """A change that is made, what it ends in, and the way back to where it began."""

    def __init__(self, policy: str, begin: list[str], change: str, undo: list[str]) -> None:
        self.policy, self.begin, self.change, self.undo = policy, begin, change, undo


SCENARIOS = {
    "role": Scenario("database", [], "raise", ["lower"]),
    "deactivate": Scenario("database", [], "deactivate", ["reactivate"]),
    "deactivate by membership": Scenario("membership", [], "deactivate", ["reactivate"]),
    "deactivate by ban": Scenario("ban", [], "deactivate", ["reactivate"]),
    "reactivate": Scenario("database", ["deactivate"], "reactivate", ["deactivate"]),
    "reactivate by membership": Scenario("membership", ["deactivate"], "reactivate", ["deactivate"]),
    "reactivate by ban": Scenario("ban", ["deactivate"], "reactivate", ["deactivate"]),
    "remove": Scenario("database", [], "remove", ["restore"]),
    "restore": Scenario("database", ["remove"], "restore", ["remove"]),
    "leave": Scenario("database", [], "leave", ["restore"]),
    "transfer": Scenario("database", [], "transfer", ["raise ada", "lower"]),
}


async def act(firm: Firm, what: str) -> None:
    """One change, by Ada, who is an admin; in the end she comes back by the hand of another."""
    changes, bob, ada = members_of(firm), firm.user_id(BOB), firm.user_id(ADA)
    root = await access_of(firm, None)
    if what in ("raise", "lower"):
        await changes.change_role(root, member_id=bob, role=ADMIN_ROLE if what == "raise" else MEMBER_ROLE)
    elif what == "raise ada":
        await changes.change_role(root, member_id=ada, role=ADMIN_ROLE)
    elif what == "leave":
        await changes.leave(await access_of(firm, BOB))
    elif what == "transfer":
        await changes.transfer_ownership(await access_of(firm, ADA), member_id=bob)
    else:
        flow = getattr(changes, what)
        await flow(root, member_id=bob)


async def sides(firm: Firm) -> Side:
    """How Bob, Ada and Dan stand on both sides; versions and ids left out."""
    people = [(await status_and_role(firm, it), in_clerk(firm, it)) for it in (ADA, BOB, DAN)]
    return (*people, is_banned(firm, BOB), open_sessions(firm, BOB))


async def is_equal(firm: Firm, email: str) -> bool:
    """Whether the mirror's membership is the one that Clerk has, or neither side has any."""
    found, state = await member(firm, email), firm.emulator.state
    there = state.membership_of.get((firm.organization_id("acme"), firm.user_id(email)))
    if there is None:
        return found.status != "active"
    kept = state.memberships.find(there)
    return kept is not None and (found.clerk_id, found.role) == (there, kept.role)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_change_interrupted_anywhere_is_finished_once(
    sqlite_migrated_url: str, clerk_key: str, name: str
) -> None:
    """At every statement, commit and boundary of a call, and once more while it is recovered.

    Webhooks come at another time in each run: before the recovery, or after it.
    """
    places = await stop_everywhere(sqlite_migrated_url, clerk_key, SCENARIOS[name], first=1, step=1)
    assert places > 12, "the places are really there"


@pytest.mark.parametrize(("first", "name"), list(enumerate(SCENARIOS)))
async def test_on_postgresql_too(postgres_migrated_url: str, clerk_key: str, first: int, name: str) -> None:
    """A sample of the places; all of them with PROOF=exhaustive."""
    begin, step = (1, 1) if EXHAUSTIVE else (1 + first % 5, 5)
    await stop_everywhere(postgres_migrated_url, clerk_key, SCENARIOS[name], first=begin, step=step)


async def stop_everywhere(url: str, clerk_key: str, scenario: Scenario, *, first: int, step: int) -> int:
    """Stop a change at every `step`-th place from the `first` on, always from where it begins; gives how many."""
    firm = await furnish(make_firm(url, private_key=clerk_key, INSTEP_DEACTIVATION=scenario.policy))
    for what in scenario.begin:
        await act(firm, what)
    await firm.settle()
    if not scenario.begin:
        sign_in(firm, BOB)
    before = await sides(firm)
    expected = await _ended(firm, scenario)
    points, is_changed = mortal(firm), True
    for at in count(first, step):
        for second in seconds(points, at, span=9):
            if is_changed:
                await _back(firm, scenario)
            assert await sides(firm) == before
            last = await latest(firm)
            with points.armed(at):
                await act(firm, scenario.change)
            if not points.where:
                await firm.close()
                return at
            where = f"{at}: {points.where}"
            if at % 2:
                await firm.settle()
            with points.armed(second):
                await recover(firm, times=1)
            is_reached = points.where
            await recover(firm, times=1)
            await firm.settle()
            made = await latest(firm)
            is_changed = made.id != last.id
            assert made.state == "settled", where
            assert await sides(firm) == (expected if is_changed else before), where
            assert all([await is_equal(firm, it) for it in (ADA, BOB, DAN)]), where
            points.last_where = is_reached
    raise AssertionError("it never came to its end")


async def latest(firm: Firm) -> Operation:
    """The operation that was asked for last."""
    return (await operations(firm, limit=1))[0]


async def _ended(firm: Firm, scenario: Scenario) -> Side:
    """What the change ends in when nothing interrupts it."""
    await act(firm, scenario.change)
    await firm.settle()
    return await sides(firm)


async def _back(firm: Firm, scenario: Scenario) -> None:
    for what in scenario.undo:
        await act(firm, what)
    await firm.settle()
    if not scenario.begin and open_sessions(firm, BOB) == 0:
        sign_in(firm, BOB)
