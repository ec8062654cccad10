"""Replicas on PostgreSQL, as real processes, two of which are killed: nothing is lost, nothing is done twice."""

from pathlib import Path

import pytest

from tests.proof.replicas import run

pytestmark = pytest.mark.anyio


async def test_two_kills_lose_nothing_and_double_nothing(postgres_migrated_url: str, tmp_path: Path) -> None:
    """The short form of `python -m tests.proof.replicas`; what goes on, and who judges, is said there."""
    told = await run(tmp_path, postgres_migrated_url, kills=2, number=3, lease=5, is_short=True)
    assert told.verdict is not None
    assert told.verdict.faults == []
    assert len(told.kills) == 2
    assert told.verdict.figures["asked by admins"] > 10
