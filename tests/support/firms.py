"""Fixtures: a whole firm of this test's own. What it stands on is imported when one is wanted, not before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.town import Town
    from tests.support.world import Firm


# For stories that run on both databases, and once more where Clerk gives as little as it may.
EVERYWHERE = pytest.mark.parametrize(
    ("migrated_url", "profile"),
    [("sqlite", "default"), ("postgresql", "default"), ("sqlite", "minimal")],
    indirect=True,
    ids=lambda value: value,
)
BOTH_PROFILES = pytest.mark.parametrize("profile", ["default", "minimal"], indirect=True)


@pytest.fixture(scope="session")
def clerk_key() -> str:
    """One pair of keys for all emulators: making one takes longer than most tests."""
    from clerk_emulator.wire.keyring import Keyring

    return Keyring("ins_test").private_pem


@pytest.fixture
def profile(request: pytest.FixtureRequest) -> str:
    """The emulator's profile: `default`, unless the test is marked with one of the marks above."""
    return str(getattr(request, "param", "default"))


@pytest.fixture
async def firm(migrated_url: str, clerk_key: str, profile: str) -> AsyncIterator[Firm]:
    """A firm with nobody in it yet; once on SQLite, once on PostgreSQL."""
    from tests.support.world import make_firm

    firm = make_firm(migrated_url, private_key=clerk_key, profile=profile)
    yield firm
    await firm.close()


@pytest.fixture
async def sqlite_firm(sqlite_migrated_url: str, clerk_key: str, profile: str) -> AsyncIterator[Firm]:
    """A firm on SQLite, where the database makes no difference."""
    from tests.support.world import make_firm

    firm = make_firm(sqlite_migrated_url, private_key=clerk_key, profile=profile)
    yield firm
    await firm.close()


@pytest.fixture
async def town(sqlite_firm: Firm) -> Town:
    """Two firms and everybody signed in, on SQLite."""
    from tests.support.town import settle

    return await settle(sqlite_firm)
