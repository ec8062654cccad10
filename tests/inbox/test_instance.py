"""The instance of a database is kept once, and changed by the secret key or a person alone."""

import pytest

from instep.clerk.fake import FakeClerk
from instep.identity.ports import ProviderDown
from instep.inbox import store
from instep.inbox.instance import (
    FROM_A_DELIVERY,
    REPLACED,
    Binding,
    bind,
    find_bound,
    find_rebound_at,
    instance_of,
    rebind,
)
from instep.kit.db import Db
from tests.support.clocks import Ticking

pytestmark = pytest.mark.anyio


def test_the_first_that_the_key_names_stays(db: Db) -> None:
    assert db.writing(bind, "ins_1", now=5) == "ins_1"
    assert db.writing(bind, "ins_2", now=6) == "ins_1"
    assert db.reading(find_bound) == "ins_1"
    assert db.reading(store.find_fact, FROM_A_DELIVERY) == "ins_1"
    assert db.reading(find_rebound_at) == 0


def test_what_a_delivery_had_named_gives_way_and_is_remembered(db: Db) -> None:
    db.writing(store.set_fact, FROM_A_DELIVERY, "ins_example")
    assert db.reading(find_bound) is None
    assert db.writing(bind, "ins_1", now=5) == "ins_1"
    assert db.reading(store.find_fact, FROM_A_DELIVERY) == "ins_1"
    assert db.reading(store.find_fact, REPLACED) == "ins_example"
    assert db.reading(find_rebound_at) == 5


def test_a_person_binds_it_to_another(db: Db) -> None:
    db.writing(bind, "ins_1", now=5)
    assert db.writing(rebind, "ins_2", now=6) == "ins_1"
    assert (db.reading(find_bound), db.reading(find_rebound_at)) == ("ins_2", 6)
    assert db.writing(rebind, "ins_2", now=7) == "ins_2"
    assert db.reading(find_rebound_at) == 6


async def test_a_key_of_another_instance_changes_nothing(db: Db) -> None:
    db.writing(bind, "ins_9", now=5)
    assert await Binding(db, FakeClerk(Ticking()), Ticking()).verify() == "ins_9"
    assert db.reading(find_bound) == "ins_9"


async def test_a_clerk_that_does_not_answer_is_asked_again_after_a_while(db: Db) -> None:
    clerk, clock = FakeClerk(Ticking(), failure=ProviderDown("No answer.")), Ticking()
    binding = Binding(db, clerk, clock)
    assert not await binding.learn()
    clerk.failure = None
    assert not await binding.learn()
    clock.advance(10_000)
    assert await binding.learn()
    assert db.reading(find_bound) == "ins_1"


async def test_a_clock_that_goes_back_does_not_keep_it_from_asking(db: Db) -> None:
    clerk, clock = FakeClerk(Ticking(), failure=ProviderDown("No answer.")), Ticking()
    binding = Binding(db, clerk, clock)
    await binding.learn()
    clerk.failure = None
    clock.advance(-3_600_000)
    assert await binding.learn()


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
    assert instance_of(body) == named
