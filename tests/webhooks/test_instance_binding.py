"""The instance of a database is kept once, and changed by the secret key or a person alone."""

import pytest

from instep.clerk.fake import FakeClerk
from instep.core.db import Database
from instep.domain.errors import ClerkUnavailableError
from instep.mirror import instance_binding
from instep.mirror.instance_binding import (
    LEGACY_INSTANCE_FACT,
    REPLACED_INSTANCE_FACT,
    InstanceBinder,
    bind_instance,
    find_bound_instance,
    find_rebound_at,
    parse_instance_id,
    rebind_instance,
)
from tests.support.clocks import Ticking

pytestmark = pytest.mark.anyio


def test_the_first_that_the_key_names_stays(db: Database) -> None:
    assert db.write_sync(bind_instance, "ins_1", now=5) == "ins_1"
    assert db.write_sync(bind_instance, "ins_2", now=6) == "ins_1"
    assert db.read_sync(find_bound_instance) == "ins_1"
    assert db.read_sync(instance_binding.find_fact, LEGACY_INSTANCE_FACT) == "ins_1"
    assert db.read_sync(find_rebound_at) == 0


def test_what_a_delivery_had_named_gives_way_and_is_remembered(db: Database) -> None:
    db.write_sync(instance_binding.set_fact, LEGACY_INSTANCE_FACT, "ins_example")
    assert db.read_sync(find_bound_instance) is None
    assert db.write_sync(bind_instance, "ins_1", now=5) == "ins_1"
    assert db.read_sync(instance_binding.find_fact, LEGACY_INSTANCE_FACT) == "ins_1"
    assert db.read_sync(instance_binding.find_fact, REPLACED_INSTANCE_FACT) == "ins_example"
    assert db.read_sync(find_rebound_at) == 5


def test_a_person_binds_it_to_another(db: Database) -> None:
    db.write_sync(bind_instance, "ins_1", now=5)
    assert db.write_sync(rebind_instance, "ins_2", now=6) == "ins_1"
    assert (db.read_sync(find_bound_instance), db.read_sync(find_rebound_at)) == ("ins_2", 6)
    assert db.write_sync(rebind_instance, "ins_2", now=7) == "ins_2"
    assert db.read_sync(find_rebound_at) == 6


async def test_a_key_of_another_instance_changes_nothing(db: Database) -> None:
    db.write_sync(bind_instance, "ins_9", now=5)
    assert await InstanceBinder(db, FakeClerk(Ticking()), Ticking()).verify() == "ins_9"
    assert db.read_sync(find_bound_instance) == "ins_9"


async def test_a_clerk_that_does_not_answer_is_asked_again_after_a_while(db: Database) -> None:
    clerk, clock = FakeClerk(Ticking(), failure=ClerkUnavailableError("No answer.")), Ticking()
    binding = InstanceBinder(db, clerk, clock)
    assert not await binding.bind_if_unbound()
    clerk.failure = None
    assert not await binding.bind_if_unbound()
    clock.advance(10_000)
    assert await binding.bind_if_unbound()
    assert db.read_sync(find_bound_instance) == "ins_1"


async def test_a_clock_that_goes_back_does_not_keep_it_from_asking(db: Database) -> None:
    clerk, clock = FakeClerk(Ticking(), failure=ClerkUnavailableError("No answer.")), Ticking()
    binding = InstanceBinder(db, clerk, clock)
    await binding.bind_if_unbound()
    clerk.failure = None
    clock.advance(-3_600_000)
    assert await binding.bind_if_unbound()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ('{"instance_id":"ins_1"}', "ins_1"),
        ("{}", None),
        ('{"instance_id":""}', None),
        ('{"instance_id":7}', None),
        ("[", None),
    ],
)
def test_what_a_delivery_names(body: str, named: str | None) -> None:
    assert parse_instance_id(body) == named
