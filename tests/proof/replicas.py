"""Replicas that die: `python -m tests.proof.replicas [--kills N] [--seed N] [--lease SECONDS]`

Two that serve and two that work on PostgreSQL, beside a Clerk emulator, all real processes. People, memberships and
invitations change in Clerk, admins edit through the API and the console of both replicas, pages are open at both; one
of the four is killed with -9 at a random moment, again and again, and started anew. Then Clerk's memory is the judge.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from instep.core.db import Database, create_engine
from instep.core.schema_migrations import migrate_schema
from tests.proof.fleet import Fleet, Process, fleet, settled, until
from tests.proof.judge import Verdict, judge
from tests.proof.life import Life, Watcher, begin, seed
from tests.support.postgres import Postgres
from tests.support.world import KEY

LOOK_ON = 120.0
T = TypeVar("T")


@dataclass
class Story:
    """What was done to the replicas, and what came of it."""

    kills: list[str] = field(default_factory=list)
    slept: list[str] = field(default_factory=list)
    verdict: Verdict | None = None

    def figures(self) -> dict[str, Any]:
        assert self.verdict is not None
        faults = {"lost": 0, "doubled": 0}
        for it in self.verdict.faults:
            what = it.partition(":")[0]
            faults[what] = faults.get(what, 0) + 1
        return {"killed": len(self.kills), "slept": len(self.slept), **self.verdict.figures, **faults}


async def run(folder: Path, url: str, *, kills: int, number: int, lease: float = 0, is_short: bool = False) -> Story:
    """One run on a migrated database; `number` seeds what is random, and `lease` shortens leases (seconds).

    `is_short`: few people, and nobody sleeps.
    """
    story, rng = Story(), random.Random(number)  # noqa: S311 (no secret)
    async with fleet(folder, url, seed=seed(1, 2) if is_short else seed(), lease=lease) as found:
        life = await begin(found, number)
        async with life.going_on():
            await until(lambda: _are_open(life, 1), "both pages are open")
            for _ in range(kills):
                await _kill_one(found, life, rng, story)
            if not is_short:
                await _sleep_one(found, life, rng, story, lease or 60.0)
        await settled(found, within=300)
        await _pages_hear(found, life)
        await settled(found)
        story.verdict = await judge(found, life.wishes)
    return story


async def _are_open(life: Life, times: int) -> bool:
    return all(it.opened >= times for it in life.watchers)


async def _a_random_moment(life: Life, rng: random.Random) -> None:
    """After some more has been done, and a little later."""
    goal = life.done + rng.randint(2, 12)

    async def enough() -> bool:
        return life.done >= goal

    await until(enough, "life goes on", within=LOOK_ON)
    await asyncio.sleep(rng.uniform(0, 0.3))


async def _kill_one(found: Fleet, life: Life, rng: random.Random, story: Story) -> None:
    """Kill one; the next request at the other is answered; start it again; its page is open again, and hears."""
    await _a_random_moment(life, rng)
    victim = rng.choice(found.replicas)
    opened = [it.opened for it in life.watchers]
    victim.kill()
    story.kills.append(victim.name)
    for other in found.serving:
        if other is not victim:
            assert await life.page_opens(other), f"{victim.name} was killed, and {other.name} does not answer"
    victim.start()
    if victim not in found.serving:
        return
    await found.ready(victim)
    place = found.serving.index(victim)
    watcher = life.watchers[place]

    async def is_back() -> bool:
        return watcher.opened > opened[place]

    await until(is_back, f"the page at {victim.name} is open again", within=LOOK_ON)
    changes = watcher.changes

    async def hears() -> bool:
        return watcher.changes > changes

    await until(hears, f"the page at {victim.name} hears of changes again", within=LOOK_ON)


async def _sleep_one(found: Fleet, life: Life, rng: random.Random, story: Story, lease: float) -> None:
    """One stops in the middle of a call to Clerk, and wakes when its lease is long over."""
    sleeper: Process = found.serving[0]
    wish = {"operation": "CreateOrganizationInvitation", "latency_ms": 1_500, "count": 3}
    fault = await found.desk("POST", "/faults", wish)

    async def is_at_it() -> bool:
        listed = await found.desk("GET", "/faults")
        return any(it["id"] == fault["id"] and it["hits"] > 0 for it in listed["data"])

    await until(is_at_it, "somebody is invited", within=LOOK_ON)
    sleeper.send(signal.SIGSTOP)
    story.slept.append(sleeper.name)
    await asyncio.sleep(lease + 2)
    sleeper.send(signal.SIGCONT)
    await found.desk("DELETE", "/faults")
    await found.ready(sleeper)


async def _pages_hear(found: Fleet, life: Life) -> None:
    """In the quiet afterwards: a change at one replica reaches the page at the other."""
    watching = [asyncio.create_task(it.listen()) for it in life.watchers]
    opened = [it.opened for it in life.watchers]
    try:
        for teller, watcher, before in zip(found.serving, reversed(life.watchers), reversed(opened), strict=True):

            async def is_open(watcher: Any = watcher, before: int = before) -> bool:
                return bool(watcher.opened > before)

            await until(is_open, partial(_seen_by, watcher))
            changes = watcher.changes
            user = life.users["named0.0@firm.example"]
            headers = {"authorization": f"Bearer {KEY}"}
            name = {"first_name": f"Quiet {teller.name}"}
            answer = await found.http.patch(f"{teller.url}/v1/users/{user}", json=name, headers=headers)
            assert answer.is_success, answer.text

            async def heard(watcher: Any = watcher, changes: int = changes) -> bool:
                return bool(watcher.changes > changes)

            await until(heard, f"a change at {teller.name} reaches the page at {watcher.process.name}")
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


def _seen_by(watcher: Watcher) -> str:
    return f"the page at {watcher.process.name} is open: {watcher.last}\n{watcher.process.log[-2_000:]}"


async def prepare(url: str) -> None:
    """Bring an empty database to the present schema, with the timer's tables."""
    engine = create_engine(url)
    migrate_schema(engine)
    engine.dispose()
    db = Database(url)
    db.close()


def on_postgres(run_on: Callable[[Path, str], Coroutine[Any, Any, T]]) -> T:
    """Run something on a folder and a PostgreSQL database of its own, which has the schema."""

    async def prepared(folder: Path, url: str) -> T:
        await prepare(url)
        return await run_on(folder, url)

    server = Postgres()
    try:
        with server.database() as url, tempfile.TemporaryDirectory() as folder:
            return asyncio.run(prepared(Path(folder), url))
    finally:
        server.stop()


def report(what: str, figures: dict[str, Any], faults: list[str], began: float) -> int:
    """Print what was proved; the exit code is 1 where there is any fault."""
    print(", ".join(f"{name} {value}" for name, value in figures.items()))
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{what}: {'FAILED' if faults else 'passed'} in {time.monotonic() - began:.0f} s", flush=True)
    return 1 if faults else 0


def main() -> int:
    """Run it as the arguments say; the exit code is 1 where anything was lost or doubled."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--lease", type=float, default=0)
    wanted = parser.parse_args()
    print(f"replicas: {wanted.kills} kills, seed {wanted.seed}", flush=True)
    began = time.monotonic()
    told = on_postgres(lambda folder, url: run(folder, url, kills=wanted.kills, number=wanted.seed, lease=wanted.lease))
    assert told.verdict is not None
    print(f"killed: {' '.join(told.kills)}; slept: {' '.join(told.slept)}")
    return report("replicas", told.figures(), told.verdict.faults, began)


if __name__ == "__main__":
    sys.exit(main())
