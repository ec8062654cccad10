"""Any story at all: whatever gets lost, comes twice, late or in the wrong order, is read from the past, or crashes.

At every step the mirror holds only states that Clerk really had, and never goes back; nobody whom Clerk did not show
only once is called dead; and once everything that Clerk told has been delivered, whatever the order, the mirror is as
Clerk is.
"""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from instep.clerk import parsing
from instep.core.clock import MINUTE
from instep.core.db import Conn, Database
from instep.domain.models import EntityKey, EntityKind
from instep.mirror.tables import memberships, organizations, users
from instep.webhooks import repository
from instep.webhooks.processor import DeliveryProcessor
from tests.proof.world import ROLES, ModelClerk, State, Thing
from tests.support.clocks import Ticking
from tests.support.compare import counted, transitions
from tests.support.crash import Crash, CrashPoints
from tests.support.deliveries import delivery

PROGRAMS = max(300, settings.default.max_examples if settings.default else 0)
SAYS: dict[EntityKind, tuple[sa.Table, str]] = {
    "user": (users, "first_name"),
    "organization": (organizations, "name"),
    "membership": (memberships, "role"),
}
names = st.sampled_from(["Ada", "Bo", "Cy"])
picks = st.integers(0, 1_000)
kinds: st.SearchStrategy[EntityKind] = st.sampled_from(sorted(SAYS))

Row = tuple[str, int, str]


def mirror(db: Database) -> dict[EntityKey, Row]:
    """What the mirror holds of each thing: whether it is "alive", "absent" or "dead", its version, what it says."""

    def read(conn: Conn) -> dict[EntityKey, Row]:
        found = {}
        for kind, (table, says) in SAYS.items():
            columns = (table.c.clerk_id, table.c.gone_at, table.c.absent_at, table.c.version, table.c[says])
            for id, gone_at, absent_at, version, word in conn.execute(sa.select(*columns)):
                state = "alive" if gone_at is None else "dead" if absent_at is None else "absent"
                found[EntityKey(kind, id)] = (state, version, word)
        return found

    return db.read_sync(read)


class Story(RuleBasedStateMachine):
    """Clerk changes, tells, and is read; instep follows as it can."""

    template: ClassVar[Path]
    shared: ClassVar[str | None] = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="instep-story-", dir=self.shared))
        shutil.copy(self.template, self.folder / "instep.db")
        self.db = Database(f"sqlite:///{self.folder / 'instep.db'}", threads=1)
        self.clock, self.clerk, self.points = Ticking(), ModelClerk(), CrashPoints()
        self.points.watch(self.db)
        self.work = DeliveryProcessor(
            db=self.db,
            clerk=self.clerk,  # type: ignore[arg-type]
            parse=parsing.parse_webhook,
            on_change=lambda _: None,
            clock=self.clock,
        )
        self.loop = asyncio.Runner()
        self.waiting: list[int] = []
        self.heard = 0
        self.before: dict[EntityKey, Row] = {}

    # Clerk lives

    @initialize()
    def the_first_day(self) -> None:
        for n in (1, 2):
            self.clerk.make("user", f"user_{n}", "Ada")
        self.clerk.make("organization", "org_1", "Firm")

    @rule(kind=st.sampled_from(["user", "organization"]), name=names)
    def something_is_made(self, kind: EntityKind, name: str) -> None:
        n = len(self.clerk.things) + 1
        if n < 12:
            self.clerk.make(kind, f"{'user' if kind == 'user' else 'org'}_{n}", name)

    @rule(user=picks, organization=picks, role=st.sampled_from(ROLES))
    def somebody_joins(self, user: int, organization: int, role: str) -> None:
        people, firms = self.clerk.alive("user"), self.clerk.alive("organization")
        if not people or not firms:
            return
        who, where = (_number(them[pick % len(them)]) for them, pick in ((people, user), (firms, organization)))
        if not any((it.user, it.organization) == (who, where) for it in self.clerk.alive("membership")):
            n = len(self.clerk.things) + 1
            self.clerk.make("membership", f"orgmem_{n}", role, user=who, organization=where)

    @rule(kind=kinds, pick=picks, says=st.integers(0, 2), is_same_moment=st.booleans())
    def something_changes(self, kind: EntityKind, pick: int, says: int, is_same_moment: bool) -> None:
        them = self.clerk.alive(kind)
        if them:
            words = ROLES if kind == "membership" else ("Ada", "Bo", "Cy")
            self.clerk.change(them[pick % len(them)], words[says % len(words)], is_same_moment=is_same_moment)

    @rule(kind=kinds, pick=picks)
    def something_ends(self, kind: EntityKind, pick: int) -> None:
        them = self.clerk.alive(kind)
        if them:
            self.clerk.end(them[pick % len(them)])

    # What becomes of what it tells

    @rule(picked=st.lists(picks, min_size=1, max_size=4))
    def some_of_it_comes_in_any_order(self, picked: list[int]) -> None:
        self.listen()
        for pick in picked:
            if self.waiting:
                self.put(self.waiting.pop(pick % len(self.waiting)))
        self.work_on()

    @rule(pick=picks)
    def something_comes_again(self, pick: int) -> None:
        self.put(pick % len(self.clerk.told))
        self.work_on()

    @rule(pick=picks)
    def a_copy_comes_under_another_id(self, pick: int) -> None:
        self.put(pick % len(self.clerk.told), copy=self.clock())
        self.work_on()

    @rule(pick=picks)
    def something_is_lost(self, pick: int) -> None:
        self.listen()
        if self.waiting:
            self.waiting.pop(pick % len(self.waiting))

    @rule(picked=st.lists(picks, min_size=1, max_size=4), at=st.integers(1, 40))
    def the_process_dies_at_work(self, picked: list[int], at: int) -> None:
        self.listen()
        for pick in picked:
            if self.waiting:
                self.put(self.waiting.pop(pick % len(self.waiting)))
        with self.points.armed(at):
            self.work_on()

    # What it answers

    @rule(is_down=st.booleans())
    def clerk_goes_down_or_comes_back(self, is_down: bool) -> None:
        self.clerk.is_down = is_down

    @rule(is_stale=st.booleans())
    def clerk_answers_from_the_past_or_no_longer(self, is_stale: bool) -> None:
        self.clerk.is_stale = is_stale

    @rule(is_hiding=st.booleans())
    def clerk_shows_nobody_or_everybody_again(self, is_hiding: bool) -> None:
        self.clerk.is_hiding = is_hiding

    @rule(pick=picks)
    def what_is_told_is_not_shown_for_some_minutes(self, pick: int) -> None:
        self.listen()
        if self.waiting:
            self.put(self.waiting.pop(pick % len(self.waiting)))
        self.clerk.is_hiding = True
        for _ in range(3):
            self.work_on()
            self.clock.advance(MINUTE)
        self.clerk.is_hiding = False

    @rule(minutes=st.sampled_from([1, 5, 60]))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(minutes * MINUTE)
        self.work_on()

    # What holds at every step

    @invariant()
    def every_row_is_a_state_that_clerk_really_had(self) -> None:
        self.now = mirror(self.db)
        for key, (state, version, says) in self.now.items():
            thing = self.clerk.things[key]
            if state == "alive":
                assert State(version, says) in thing.past, f"{key} is {version} {says}, and never was in Clerk"
            elif state == "dead":
                assert not thing.is_alive, f"{key} is called dead, and is alive in Clerk"
            else:
                assert not thing.is_alive or self.was_missed(thing), f"{key} was missed once, and is called gone"

    def was_missed(self, thing: Thing) -> bool:
        """Whether Clerk did not show it, or something that it hangs on, more than once."""
        parents: list[EntityKind] = ["user", "organization"] if thing.key.kind == "membership" else []
        return any(self.clerk.missed[it.key] > 1 for it in (thing, *(self.clerk.parent(thing, it) for it in parents)))

    @invariant()
    def nothing_goes_back(self) -> None:
        for key, (before, version, _) in self.before.items():
            assert key in self.now, f"{key} disappeared"
            state, newer, _ = self.now[key]
            assert before != "dead" or state == "dead", f"{key} rose from the dead"
            assert newer >= version or state != "alive", f"{key} fell from version {version} to {newer}"
        self.before = self.now

    @invariant()
    def nobody_belongs_to_the_dead(self) -> None:
        query = sa.text(
            "SELECT count(*) FROM instep_memberships m JOIN instep_users u ON u.id = m.user_id "
            "JOIN instep_organizations o ON o.id = m.organization_id "
            "WHERE m.status <> 'removed' AND (u.gone_at IS NOT NULL OR o.gone_at IS NOT NULL)"
        )
        assert self.db.read_sync(lambda conn: conn.execute(query).scalar_one()) == 0

    @invariant()
    def each_beginning_and_each_end_happened_once(self) -> None:
        happened = Counter(transitions(self.db))
        for (action, id), times in happened.items():
            kind, _, what = action.partition(".")
            if what == "seen":
                assert times == 1, (action, id)
            if what == "gone":
                assert times <= 1 + happened[f"{kind}.back", id], (action, id)

    @precondition(lambda self: self.heard > 0)
    @invariant()
    def the_counts_are_those_of_the_rows(self) -> None:
        assert counted(self.db)

    # The end

    def teardown(self) -> None:
        try:
            self.everything_is_delivered_in_the_end()
        finally:
            self.loop.close()
            self.db.close()
            shutil.rmtree(self.folder)

    def everything_is_delivered_in_the_end(self) -> None:
        """Also what was lost, from Clerk's dashboard; in the worst order; then the mirror is as Clerk is."""
        self.clerk.is_down = self.clerk.is_stale = self.clerk.is_hiding = False
        for number in reversed(range(len(self.clerk.told))):
            self.put(number)
        self.work_until_nothing_waits()
        for number in range(len(self.clerk.told)):  # of those who were missed, there may be no more news
            self.put(number, copy=self.clock())
        self.work_until_nothing_waits()
        self.every_row_is_a_state_that_clerk_really_had()
        self.nothing_goes_back()
        self.each_beginning_and_each_end_happened_once()
        assert self.db.read_sync(repository.count_by_state) == {}, "nothing waits and nothing is parked"
        living = {key: (row[1], row[2]) for key, row in self.now.items() if row[0] == "alive"}
        in_clerk = {key: (it.now.version, it.now.says) for key, it in self.clerk.things.items() if it.is_alive}
        assert living == in_clerk

    # How it is done

    def listen(self) -> None:
        self.waiting += range(self.heard, len(self.clerk.told))
        self.heard = len(self.clerk.told)

    def put(self, number: int, *, copy: int = 0) -> None:
        """Have one message in the inbox; the same number is the same svix-id."""
        id = f"msg_{number}_{copy}"
        self.db.write_sync(repository.insert_deliveries, [delivery(id, self.clerk.told[number], at=self.clock())])

    def work_until_nothing_waits(self) -> None:
        self.work_on()
        while (due := self.db.read_sync(repository.find_next_due_at)) is not None:
            self.clock.at = max(self.clock.at, due)
            self.work_on()

    def work_on(self) -> None:
        async def run() -> None:
            while await self.work.run_once():
                pass

        try:
            self.loop.run(run())
        except Crash:
            if not self.points.where:
                raise


def _number(thing: Thing) -> int:
    return int(thing.key.id.partition("_")[2])


def test_whatever_happens_the_mirror_is_true_at_every_step_and_complete_in_the_end(sqlite_template: Path) -> None:
    class Here(Story):
        template = sqlite_template

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=PROGRAMS,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_story_that_is_told_wrong_is_noticed(sqlite_template: Path) -> None:
    """The oracle itself: a row that Clerk never had is found at once."""

    class Here(Story):
        template = sqlite_template

    story = Here()
    try:
        story.the_first_day()
        story.some_of_it_comes_in_any_order([0, 0, 0])
        story.every_row_is_a_state_that_clerk_really_had()
        lie: Any = sa.update(users).values(first_name="Nobody")
        story.db.write_sync(lambda conn: conn.execute(lie))
        with pytest.raises(AssertionError, match="never was in Clerk"):
            story.every_row_is_a_state_that_clerk_really_had()
    finally:
        story.loop.close()
        story.db.close()
        shutil.rmtree(story.folder)
