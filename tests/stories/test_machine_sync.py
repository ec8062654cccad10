"""Any story at all, with sync in it: checks, plans old and new, first syncs and looks at what changed, while webhooks
get lost, come twice, late or in the wrong order, pages come from the past, people change between two pages, and
processes die at any statement.

What holds at every step holds here too; a check changes nothing; and in the end a sync mends whatever was lost, and
what comes late spoils nothing.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from instep.clerk.instance_scanner import InstanceScanner
from instep.clerk.pagination import ClerkPageReader
from instep.core.clock import MINUTE
from instep.core.errors import InstepError
from instep.domain.models import EntityKind
from instep.sync.apply import ClerkWriter
from instep.sync.service import SyncService
from instep.webhooks import repository
from tests.proof.api import ModelBackend
from tests.proof.world import ROLES
from tests.stories.test_machine import Story, kinds, mirror, picks
from tests.support.crash import Crash
from tests.sync.world import no_pause, small_pages

PROGRAMS = max(60, (settings.default.max_examples if settings.default else 0) // 4)
Happening = tuple[EntityKind, int, int]
meanwhiles = st.lists(st.tuples(kinds, picks, st.integers(0, 3)), max_size=3)
places = st.one_of(st.just(0), st.integers(1, 60))


class SyncStory(Story):
    """Clerk changes, tells, and is read; instep follows by webhooks and by syncs."""

    def __init__(self) -> None:
        super().__init__()
        self.api = ModelBackend(self.clerk)
        self.sync = SyncService(
            db=self.db,
            source=InstanceScanner(ClerkPageReader(self.api, sleep=no_pause)),  # type: ignore[arg-type]
            writer=ClerkWriter(self.clerk),  # type: ignore[arg-type]
            clock=self.clock,
            find_newest_event_at=repository.find_newest_applied_at,
        )
        self.plan_id = ""

    @rule(meanwhile=meanwhiles, at=places)
    def both_sides_are_checked(self, meanwhile: list[Happening], at: int) -> None:
        before = mirror(self.db)
        self.sync_services(partial(self.sync.check, actor="test"), meanwhile, at)
        assert mirror(self.db) == before, "a check changes nothing"

    @rule(meanwhile=meanwhiles, at=places, allow_gone=st.sampled_from([None, 0, 100]))
    def a_plan_is_made(self, meanwhile: list[Happening], at: int, allow_gone: int | None) -> None:
        before = mirror(self.db)
        run = self.sync_services(partial(self.sync.plan, actor="test", allow_gone=allow_gone), meanwhile, at)
        assert mirror(self.db) == before, "a plan changes nothing"
        self.plan_id = run.id if run else self.plan_id

    @rule(meanwhile=meanwhiles, at=places)
    def the_plan_is_applied_however_old(self, meanwhile: list[Happening], at: int) -> None:
        self.sync_services(partial(self.sync.apply, self.plan_id, actor="test"), meanwhile, at)

    @rule(meanwhile=meanwhiles, at=places)
    def everything_is_taken_in(self, meanwhile: list[Happening], at: int) -> None:
        self.sync_services(partial(self.sync.backfill, actor="test"), meanwhile, at)

    @rule(meanwhile=meanwhiles, at=places)
    def what_changed_is_taken_in(self, meanwhile: list[Happening], at: int) -> None:
        self.sync_services(partial(self.sync.apply_recent_changes, actor="test"), meanwhile, at)

    def sync_services(self, act: Callable[[], Coroutine[Any, Any, Any]], meanwhile: list[Happening], at: int) -> Any:
        """One run, stopped at the `at`-th place (0: nowhere); None where it did not come to its end."""
        self.api.meanwhile = [partial(self.happen, it) for it in meanwhile]
        try:
            with self.points.armed(at):
                return self.loop.run(act())
        except InstepError:  # refused, busy, or Clerk is down: it says so, and the invariants look at what is left
            return None
        except Crash:
            if not self.points.where:
                raise
            return None
        finally:
            self.api.meanwhile = []

    def happen(self, what: Happening) -> None:
        """Something in Clerk, between two pages."""
        kind, pick, how = what
        them = self.clerk.alive(kind)
        if not them:
            return
        if how == 3:
            self.clerk.end(them[pick % len(them)])
        else:
            words = ROLES if kind == "membership" else ("Ada", "Bo", "Cy")
            self.clerk.change(them[pick % len(them)], words[how % len(words)], is_same_moment=False)

    def everything_is_delivered_in_the_end(self) -> None:
        """A sync mends what was lost; then whatever was told comes after all, and nothing is spoiled."""
        self.clerk.is_down = self.clerk.is_stale = self.clerk.is_hiding = False
        self.clock.advance(5 * MINUTE)
        self.work_until_nothing_waits()
        for _ in range(3):
            run = self.loop.run(self.sync.plan(actor="test", allow_gone=1_000))
            self.loop.run(self.sync.apply(run.id, actor="test"))
            found = self.loop.run(self.sync.check(actor="test")).counts
            if not found:
                break
        assert found == {}, "a sync that was applied leaves nothing"
        self.every_row_is_a_state_that_clerk_really_had()
        self.nothing_goes_back()
        living = {key: row[2] for key, row in self.now.items() if row[0] == "alive"}
        assert living == {key: it.now.says for key, it in self.clerk.things.items() if it.is_alive}
        super().everything_is_delivered_in_the_end()


def test_whatever_happens_a_sync_mends_it(sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 3, overlap=2, window=4)

    class Here(SyncStory):
        template = sqlite_template

    run_state_machine_as_test(
        Here,
        settings=settings(max_examples=PROGRAMS, stateful_step_count=15, suppress_health_check=list(HealthCheck)),
    )
