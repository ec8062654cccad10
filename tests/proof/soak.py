"""A long steady day: `python -m tests.proof.soak [--minutes N] [--seed N]` (PROOF_MINUTES, else 5)

Two that serve and two that work on PostgreSQL beside a Clerk emulator that limits, fails, answers late or loses an
answer now and then, and whose webhooks come twice, late and in another order. Memory must stay flat, what is open must
not pile up, the inbox must run dry in the end, and Clerk's memory is the judge.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.proof.fleet import Fleet, backlog, fleet, settled
from tests.proof.judge import Verdict, judge
from tests.proof.life import Life, begin, seed
from tests.proof.replicas import on_postgres, report

EVERY = 2.0
WARM_UP = 0.2  # of the time: caches fill, threads start
GROWTH, SLACK_MB = 1.10, 12.0
MOST_OPEN = 60
TROUBLES: tuple[dict[str, Any], ...] = (
    {"operation": "CreateOrganizationInvitation", "status": 429, "retry_after": 1, "count": 1},
    {"operation": "UpdateUser", "status": 503, "count": 1},
    {"operation": "UpdateUser", "status": 504, "after_effect": True, "count": 1},
    {"operation": "UpdateOrganizationMembership", "status": 504, "after_effect": True, "count": 1},
    {"operation": "UpdateOrganizationMembership", "status": 429, "retry_after": 2, "count": 1},
    {"operation": "CreateUser", "status": 504, "after_effect": True, "count": 1},
    {"operation": "GetUserList", "latency_ms": 400, "count": 2},
    {"event": "*", "do": "double", "count": 3},
    {"event": "*", "do": "reorder", "count": 2},
    {"event": "*", "do": "delay", "delay_ms": 3_000, "count": 2},
)


@dataclass
class Day:
    """What was seen: memory of each process (MB) and what was open, again and again."""

    memory: dict[str, list[float]] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    troubles: int = 0
    drained_in: float = 0.0
    verdict: Verdict | None = None

    def faults(self) -> list[str]:
        """Whatever should not be."""
        assert self.verdict is not None
        found = list(self.verdict.faults)
        for name, (first, second) in self.peaks().items():
            if second > first * GROWTH + SLACK_MB:
                found.append(f"memory: {name} grew from {first:.0f} to {second:.0f} MB")
        if max(self.open) > MOST_OPEN:
            found.append(f"piled up: {max(self.open)} operations were open at once")
        return found

    def peaks(self) -> dict[str, tuple[float, float]]:
        """The most memory of each process in the first and in the second half, after warming up."""
        found = {}
        for name, samples in self.memory.items():
            warm = samples[int(len(samples) * WARM_UP) :]
            half = max(1, len(warm) // 2)
            found[name] = (max(warm[:half]), max(warm[half:]))
        return found

    def figures(self) -> dict[str, Any]:
        assert self.verdict is not None
        memory = {f"MB of {name}": f"{first:.0f} then {second:.0f}" for name, (first, second) in self.peaks().items()}
        most = {"most open": max(self.open), "most waiting": max(self.waiting), "troubles": self.troubles}
        return {**self.verdict.figures, **most, "drained in s": f"{self.drained_in:.1f}", **memory}


async def run(folder: Path, url: str, *, minutes: float, number: int) -> Day:
    """One day of so many minutes."""
    day, rng = Day(), random.Random(number)  # noqa: S311 (no secret)
    async with fleet(folder, url, seed=seed()) as found:
        life = await begin(found, number)
        async with life.going_on() as lanes:
            ends = time.monotonic() + minutes * 60
            while time.monotonic() < ends:
                assert not any(it.done() for it in lanes), [it for it in lanes if it.done()]
                await _look(found, day)
                await _trouble(found, life, rng, day)
                await asyncio.sleep(EVERY)
        await found.desk("DELETE", "/faults")
        began = time.monotonic()
        await settled(found, within=600)
        day.drained_in = time.monotonic() - began
        day.verdict = await judge(found, life.wishes)
    return day


async def _look(found: Fleet, day: Day) -> None:
    for process in found.replicas:
        assert process.is_alive, f"{process.name} ended by itself:\n{process.log[-2_000:]}"
        day.memory.setdefault(process.name, []).append(process.memory())
    unfinished = await backlog(found)
    day.open.append(unfinished.pop("operations", 0))
    day.waiting.append(sum(unfinished.values()))


async def _trouble(found: Fleet, life: Life, rng: random.Random, day: Day) -> None:
    if rng.random() < 0.5:
        await found.desk("POST", "/faults", rng.choice(TROUBLES))
        day.troubles += 1


def main() -> int:
    """Run it as the arguments say; the exit code is 1 where anything is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("PROOF_MINUTES", "5")))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    wanted = parser.parse_args()
    print(f"soak: {wanted.minutes:g} minutes, seed {wanted.seed}", flush=True)
    began = time.monotonic()
    day = on_postgres(lambda folder, url: run(folder, url, minutes=wanted.minutes, number=wanted.seed))
    return report("soak", day.figures(), day.faults(), began)


if __name__ == "__main__":
    sys.exit(main())
