"""Deliveries at work: each is decided, waits for what it needs, or is shown to a person; none is lost."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import sqlalchemy as sa

from instep.clerk import parsing
from instep.clerk.fake import FakeClerk
from instep.clerk.parsing import UnreadableDataError
from instep.core.clock import MINUTE, SECOND
from instep.core.db import Database
from instep.core.errors import TemporaryError
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.events import LookupResult, Tombstone, WebhookEvent, make_observation
from instep.domain.models import ClerkId, ClerkOrganization, ClerkUser
from instep.domain.reconcile import NeedsRefetch
from instep.mirror.instance_binding import RETRY_INTERVAL, bind_instance
from instep.webhooks import repository
from instep.webhooks.processor import RETRY_DELAYS, DeliveryProcessor, ProcessingResult
from instep.webhooks.refetch import ABSENCE_CONFIRMATION_DELAY
from tests.support.clocks import Ticking
from tests.support.compare import mirror_side, transitions
from tests.support.crash import Crash, CrashPoints
from tests.support.deliveries import INSTANCE, body, delivery, kept, membership_body, user_body
from tests.support.faults import failing

pytestmark = pytest.mark.anyio

DOWN = ClerkUnavailableError("Clerk did not answer.")
POISON = user_body(66, external_id="poison")


class Desk:
    """An inbox with its worker, and a Clerk of which the test is the master."""

    def __init__(self, db: Database) -> None:
        self.db, self.clock = db, Ticking()
        db.write_sync(bind_instance, INSTANCE, now=0)
        self.clerk = FakeClerk(self.clock)
        self.told: list[ProcessingResult] = []
        self.work = DeliveryProcessor(db=db, clerk=self.clerk, parse=read, on_change=self.told.append, clock=self.clock)
        self.sent = 0

    def put(self, *bodies: bytes) -> list[str]:
        """Have these in the inbox, in this order."""
        ids = []
        for it in bodies:
            self.sent += 1
            ids.append(f"msg_{self.sent}")
            self.db.write_sync(repository.insert_deliveries, [delivery(ids[-1], it, at=self.clock())])
        return ids

    async def run(self, *bodies: bytes) -> list[str]:
        """Have these in the inbox, and work until nothing is due."""
        ids = self.put(*bodies)
        while await self.work.run_once():
            pass
        return ids

    def row(self, id: str) -> dict[str, Any]:
        return kept(self.db)[id]

    def outcomes(self) -> dict[str, str]:
        return {id: row["outcome"] for id, row in kept(self.db).items()}

    def states(self) -> dict[str, str]:
        return {id: row["state"] for id, row in kept(self.db).items()}


def read(body: bytes) -> list[WebhookEvent]:
    if b'"broken"' in body:
        raise ZeroDivisionError("nobody thought of this")
    return parsing.parse_webhook(body)


@pytest.fixture
def desk(db: Database) -> Desk:
    return Desk(db)


def poisoned(db: Database) -> Any:
    """Within, the row of user 66 can't be written, as if the database refused its values."""
    refusal = sa.exc.DataError("", {}, Exception("value out of range"))

    def refuse(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if "INTO instep_users" in statement and "poison" in repr(parameters):
            raise refusal

    sa.event.listen(db.engine, "before_cursor_execute", refuse)


async def test_each_delivery_says_what_came_of_it(desk: Desk) -> None:
    organization = {"id": "org_1", "name": "Firm", "updated_at": 1}
    await desk.run(
        user_body(1, version=5, type_="user.created"),
        user_body(1, version=4),
        user_body(1, version=5),
        user_body(1, version=6, first_name="New"),
        body("user.deleted", {"id": "user_2"}),
        user_body(2, version=9),
        body("organizationInvitation.created", {"organization_id": "org_1"}),
        body("session.ended", {"id": "sess_1"}),
        body("email.created", {}),
        body("organization.created", organization),
    )
    assert list(desk.outcomes().values()) == [
        "changed",
        "older",
        "same",
        "changed",
        "changed",
        "gone",
        "pages refreshed",
        "session ended",
        "not kept",
        "changed",
    ]
    assert set(desk.states().values()) == {"settled"}
    assert all(row["settled_at"] and row["due_at"] is None for row in kept(desk.db).values())


async def test_the_audit_has_one_entry_for_each_real_transition_and_names_its_cause(desk: Desk) -> None:
    first = user_body(1, version=1, type_="user.created")
    await desk.run(first, first, user_body(1, version=2, first_name="New"), user_body(1, version=2, first_name="New"))
    await desk.run(body("user.deleted", {"id": "user_1"}), body("user.deleted", {"id": "user_1"}), first)
    assert transitions(desk.db) == [("user.seen", "user_1"), ("user.changed", "user_1"), ("user.gone", "user_1")]
    causes = sa.text("SELECT cause FROM instep_audit ORDER BY at, id")
    assert desk.db.read_sync(lambda conn: list(conn.execute(causes).scalars())) == ["msg_1", "msg_3", "msg_5"]


async def test_a_message_that_comes_again_does_nothing_twice(desk: Desk) -> None:
    (id,) = await desk.run(user_body(1))
    for _ in range(3):
        desk.db.write_sync(repository.insert_deliveries, [delivery(id, user_body(1), at=desk.clock())])
        assert await desk.work.run_once() == 0
    assert transitions(desk.db) == [("user.seen", "user_1")]


async def test_what_waits_for_nothing_asks_clerk_for_nothing(desk: Desk) -> None:
    organization = ClerkOrganization(clerk_id=ClerkId("org_1"), name="Firm 1")
    desk.clerk.failure = DOWN
    await desk.run(user_body(1), membership_body(1))
    assert organization.name in str(mirror_side(desk.db))
    assert set(mirror_side(desk.db)["memberships"]) == {"orgmem_1"}
    assert desk.clerk.calls == []


async def test_a_membership_brings_its_person_from_clerk(desk: Desk) -> None:
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_1"), first_name="Maya"))
    await desk.run(membership_body(1))
    assert mirror_side(desk.db)["users"]["user_1"]["first_name"] == "Maya"
    assert mirror_side(desk.db)["memberships"]["orgmem_1"]["user"] == "user_1"
    assert desk.outcomes() == {"msg_1": "changed"}


async def test_many_memberships_that_miss_their_people_are_one_question(desk: Desk) -> None:
    for n in range(1, 31):
        desk.clerk.put_user(ClerkUser(clerk_id=ClerkId(f"user_{n}")))
    await desk.run(*[membership_body(n, of=n) for n in range(1, 31)])
    assert len(mirror_side(desk.db)["memberships"]) == 30
    assert desk.clerk.calls == ["look"]


async def test_a_late_deletion_of_a_membership_whose_person_nobody_knows_is_a_grave(desk: Desk) -> None:
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_1")))
    desk.clerk.put_organization(ClerkOrganization(clerk_id=ClerkId("org_1"), name="Firm 1"))
    await desk.run(membership_body(1, type_="organizationMembership.deleted"))
    await desk.run(membership_body(1, version=10**12))
    assert mirror_side(desk.db)["memberships"] == {}
    assert desk.outcomes() == {"msg_1": "changed", "msg_2": "gone"}


async def test_while_clerk_is_down_it_waits_with_a_due_time_and_nothing_else_waits_with_it(desk: Desk) -> None:
    desk.clerk.failure = DOWN
    await desk.run(membership_body(1), user_body(2))
    waiting = desk.row("msg_1")
    assert (waiting["state"], waiting["attempts"], waiting["outcome"]) == ("waiting", 1, "Clerk did not answer.")
    assert 0 < waiting["due_at"] - desk.clock.at <= RETRY_DELAYS[0]
    assert desk.states()["msg_2"] == "settled"
    desk.clerk.failure = None
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_1")))
    desk.clock.at = waiting["due_at"]
    await desk.run()
    assert set(mirror_side(desk.db)["memberships"]) == {"orgmem_1"}


async def test_where_clerk_says_how_long_to_wait_it_waits_as_long(desk: Desk) -> None:
    desk.clerk.failure = ClerkUnavailableError("Clerk is limiting us.", retry_after=90)
    await desk.run(membership_body(1))
    assert 80 * SECOND < desk.row("msg_1")["due_at"] - desk.clock.at <= 90 * SECOND


async def test_after_many_failures_it_waits_for_an_absence_no_longer_than_for_the_first(desk: Desk) -> None:
    """Clerk answers again and does not show someone: that is believed after half a minute, however long it was down."""
    desk.clerk.failure = DOWN
    (id,) = await desk.run(membership_body(1))
    for _ in range(3):
        desk.clock.at = desk.row(id)["due_at"]
        await desk.run()
    desk.clerk.failure = None
    desk.clock.at = desk.row(id)["due_at"]
    await desk.run()
    assert desk.row(id)["missing"]
    assert desk.row(id)["due_at"] - desk.clock.at <= ABSENCE_CONFIRMATION_DELAY
    desk.clock.at = desk.row(id)["due_at"] + SECOND
    await desk.run()
    assert desk.row(id)["state"] == "settled"


@pytest.mark.parametrize(
    "failure", [DOWN, ClerkRejectedError("No.", code="clerk_key_invalid", status=401), UnreadableDataError("Not JSON.")]
)
async def test_after_the_last_delay_it_is_parked_for_a_person(desk: Desk, failure: Exception) -> None:
    desk.clerk.failure = failure  # type: ignore[assignment]
    (id,) = await desk.run(membership_body(1))
    waited = []
    while (due := desk.row(id)["due_at"]) is not None:
        waited.append(due - desk.clock.at)
        desk.clock.at = due
        await desk.run()
    assert [round(it / SECOND) for it in waited] == [it // SECOND for it in RETRY_DELAYS]
    assert (desk.row(id)["state"], desk.row(id)["outcome"]) == ("parked", str(failure))


async def test_what_cannot_be_read_is_parked_at_once_and_alone(desk: Desk) -> None:
    ids = await desk.run(user_body(1), body("user.updated", {"id": None}), user_body(2))
    assert list(desk.states().values()) == ["settled", "parked", "settled"]
    assert "Clerk sent unreadable data" in desk.row(ids[1])["outcome"]
    assert desk.db.read_sync(repository.count_by_state) == {"parked": 1}


async def test_a_poison_delivery_stands_alone_and_fails_at_once(desk: Desk) -> None:
    poisoned(desk.db)
    await desk.run(user_body(1), POISON, user_body(2), body("user.deleted", {"id": "user_3"}))
    assert list(desk.states().values()) == ["settled", "parked", "settled", "settled"]
    assert set(mirror_side(desk.db)["users"]) == {"user_1", "user_2"}
    await desk.run(user_body(9, version=desk.clock.at))
    assert (desk.row("msg_2")["state"], desk.row("msg_2")["attempts"]) == ("parked", 0)
    assert "value out of range" in desk.row("msg_2")["outcome"]
    assert Counter(desk.states().values())["settled"] == len(desk.states()) - 1


async def test_a_failure_that_nobody_thought_of_stops_nothing_either(desk: Desk) -> None:
    await desk.run(user_body(1), user_body(5, first_name="broken"), user_body(2))
    assert list(desk.states().values()) == ["settled", "waiting", "settled"]
    assert desk.row("msg_2")["outcome"] == "ZeroDivisionError: nobody thought of this"


ENDLESS = b"".join(sha256(bytes([n])).hexdigest().encode() for n in range(256)).decode()


async def test_a_word_too_long_for_an_index_is_cut_at_the_edge(desk: Desk) -> None:
    await desk.run(user_body(1), user_body(5, username=ENDLESS), user_body(2))
    assert set(desk.states().values()) == {"settled"}
    assert ENDLESS.startswith(mirror_side(desk.db)["users"]["user_5"]["username"])


async def test_a_word_too_long_for_an_index_is_poison_and_no_outage(desk: Desk) -> None:
    """PostgreSQL reports it as it reports that it can't be reached: nothing may wait for that to pass."""
    desk.work = replace(
        desk.work, parse=lambda _body: [make_observation(ClerkUser(clerk_id=ClerkId("user_5"), username=ENDLESS), 1)]
    )
    await desk.run(user_body(5))
    row = desk.row("msg_1")
    assert desk.db.is_sqlite or (row["state"], row["attempts"], "index row" in row["outcome"]) == ("parked", 0, True)


async def test_numbers_that_no_database_holds_are_refused_at_the_door_of_the_mirror(desk: Desk) -> None:
    await desk.run(user_body(1, version=10**30), user_body(2, last_active_at=2**63), user_body(3))
    assert list(desk.states().values()) == ["parked", "settled", "settled"]
    assert set(mirror_side(desk.db)["users"]) == {"user_2", "user_3"}


async def test_poison_in_what_clerk_answers_spoils_only_who_asked_for_it(desk: Desk) -> None:
    poisoned(desk.db)
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_1")))
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_66"), external_id="poison"))
    await desk.run(membership_body(1, of=1), membership_body(66, of=66))
    assert desk.states() == {"msg_1": "settled", "msg_2": "parked"}
    assert set(mirror_side(desk.db)["memberships"]) == {"orgmem_1"}


async def test_without_the_database_nothing_is_settled_and_nothing_is_lost(desk: Desk) -> None:
    (id,) = desk.put(user_body(1))
    with failing(desk.db), pytest.raises(TemporaryError):
        await desk.work.run_once()
    assert (desk.row(id)["state"], desk.row(id)["attempts"]) == ("new", 0)
    await desk.run()
    assert set(mirror_side(desk.db)["users"]) == {"user_1"}


class Bystander:
    """A Clerk that lets something happen while it is asked."""

    def __init__(self, clerk: FakeClerk, meanwhile: Any) -> None:
        self._clerk, self._meanwhile = clerk, meanwhile

    async def fetch(self, asks: Sequence[NeedsRefetch]) -> list[LookupResult]:
        found = await self._clerk.fetch(asks)
        self._meanwhile()
        return found


async def test_while_clerk_is_asked_the_delivery_is_leased_and_no_other_worker_takes_it(desk: Desk) -> None:
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_1")))
    due: list[int | None] = []
    clerk = Bystander(desk.clerk, lambda: due.append(desk.row("msg_1")["due_at"]))
    work = DeliveryProcessor(db=desk.db, clerk=clerk, parse=read, on_change=desk.told.append, clock=desk.clock)  # type: ignore[arg-type]
    desk.put(membership_body(1))
    await work.run_once()
    assert due[0] is not None
    assert MINUTE - SECOND < due[0] - desk.clock.at <= MINUTE


async def test_a_death_that_comes_while_clerk_is_asked_is_not_undone_by_the_answer(desk: Desk) -> None:
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_1")))

    def die() -> None:
        desk.db.write_sync(
            repository.insert_deliveries, [delivery("msg_9", body("user.deleted", {"id": "user_1"}), at=0)]
        )
        said = parsing.parse_webhook(kept(desk.db)["msg_9"]["body"].encode())
        assert isinstance(said[0], Tombstone)
        desk.db.write_sync(desk.work._process_claimed, ["msg_9"], [])

    clerk = Bystander(desk.clerk, die)
    work = DeliveryProcessor(db=desk.db, clerk=clerk, parse=read, on_change=desk.told.append, clock=desk.clock)  # type: ignore[arg-type]
    desk.put(membership_body(1))
    await work.run_once()
    assert mirror_side(desk.db)["users"] == {}
    assert mirror_side(desk.db)["memberships"] == {}


async def test_an_equal_version_with_other_content_is_settled_by_reading_clerk(desk: Desk) -> None:
    await desk.run(user_body(1, version=5, first_name="One"))
    truth = ClerkUser(clerk_id=ClerkId("user_1"), first_name="Other")
    desk.clerk._users[truth.clerk_id] = make_observation(truth, 5)
    await desk.run(user_body(1, version=5, first_name="Other"))
    assert mirror_side(desk.db)["users"]["user_1"]["first_name"] == "Other"
    await desk.run(user_body(1, version=5, first_name="One"))
    assert mirror_side(desk.db)["users"]["user_1"]["first_name"] == "Other"
    assert set(desk.states().values()) == {"settled"}


async def test_open_pages_hear_which_organizations_changed(desk: Desk) -> None:
    await desk.run(user_body(1), membership_body(1))
    (ours,) = desk.db.read_sync(
        lambda conn: list(conn.execute(sa.text("SELECT id FROM instep_organizations")).scalars())
    )
    desk.told.clear()
    await desk.run(user_body(1, version=2, first_name="Renamed"))
    assert [worked.touched for worked in desk.told if worked.outcomes] == [{ours}]
    desk.told.clear()
    await desk.run(body("organizationInvitation.revoked", {"organization_id": "org_1"}))
    assert [worked.touched_organization_clerk_ids for worked in desk.told if worked.outcomes] == [{"org_1"}]


async def test_whoever_dies_at_any_statement_loses_nothing_and_does_nothing_twice(desk: Desk) -> None:
    """Every place at which a batch can be interrupted, with a membership that must ask Clerk in it."""
    points = CrashPoints()
    points.watch(desk.db)
    at, is_reached = 0, True
    while is_reached:
        at += 1
        n = 10 * at
        desk.clerk.put_user(ClerkUser(clerk_id=ClerkId(f"user_{n + 1}")))
        ids = desk.put(user_body(n), membership_body(n, of=n, in_=n), membership_body(n + 1, of=n + 1, in_=n))
        with points.armed(at):
            while await desk.work.run_once():
                pass
        is_reached = bool(points.where)
        desk.clock.advance(2 * MINUTE)
        await desk.run()
        assert [desk.row(id)["state"] for id in ids] == ["settled"] * 3, points.where
        memberships = mirror_side(desk.db)["memberships"]
        assert {f"orgmem_{n}", f"orgmem_{n + 1}"} <= memberships.keys(), points.where
    assert at > 10, "the batch has that many places to die at"
    happened = Counter(transitions(desk.db))
    assert set(happened.values()) == {1}, happened


def test_a_crash_is_nothing_that_code_may_catch() -> None:
    assert not issubclass(Crash, Exception)


class Past:
    """A Clerk that answers from a page of the past."""

    def __init__(self, *answers: LookupResult) -> None:
        self.answers = list(answers)

    async def fetch(self, asks: Sequence[NeedsRefetch]) -> list[LookupResult]:
        return [self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)]


async def test_an_answer_from_the_past_settles_nothing(desk: Desk) -> None:
    """Two contents of one version, and Clerk answers with an older version still: it must be asked again later."""
    await desk.run(user_body(1, version=5, first_name="One"))
    person = ClerkUser(clerk_id=ClerkId("user_1"), first_name="Older")
    clerk = Past(make_observation(person, 4))
    work = DeliveryProcessor(db=desk.db, clerk=clerk, parse=read, on_change=desk.told.append, clock=desk.clock)  # type: ignore[arg-type]
    (id,) = desk.put(user_body(1, version=5, first_name="Other"))
    await work.run_once()
    assert mirror_side(desk.db)["users"]["user_1"]["first_name"] == "One"
    assert desk.row(id)["state"] == "waiting"
    clerk.answers = [make_observation(ClerkUser(clerk_id=ClerkId("user_1"), first_name="Other"), 5)]
    desk.clock.at = desk.row(id)["due_at"]
    await work.run_once()
    assert mirror_side(desk.db)["users"]["user_1"]["first_name"] == "Other"
    assert desk.row(id)["state"] == "settled"


async def test_a_delivery_of_another_instance_is_kept_and_not_applied(desk: Desk) -> None:
    foreign = body("user.created", {"id": "user_9", "nothing": "that can be read"}, instance="ins_2")
    ours, other = await desk.run(user_body(1), foreign)
    assert desk.outcomes()[other] == "foreign"
    assert desk.states() == {ours: "settled", other: "settled"}
    assert set(mirror_side(desk.db)["users"]) == {"user_1"}
    assert desk.db.read_sync(repository.count_foreign) == 1
    assert desk.db.read_sync(repository.find_newest_applied_at) == desk.row(ours)["received_at"]


async def test_what_names_no_instance_is_read_from_clerk_and_believed_then_alone(desk: Desk) -> None:
    desk.clerk.put_user(ClerkUser(clerk_id=ClerkId("user_1"), first_name="True"))
    said = user_body(1, version=5, first_name="Told").replace(b', "instance_id": "ins_1"', b"")
    (id,) = await desk.run(said)
    assert (desk.states()[id], desk.outcomes()[id]) == ("settled", "settled by reading Clerk")
    assert mirror_side(desk.db)["users"]["user_1"]["first_name"] == "True"


async def test_until_the_instance_is_known_deliveries_wait_and_clerk_is_asked_now_and_then(desk: Desk) -> None:
    desk.db.write_sync(lambda conn: conn.execute(sa.text("DELETE FROM instep_facts")))
    desk.clerk.failure = DOWN
    (id,) = await desk.run(user_body(1))
    assert (desk.row(id)["state"], desk.row(id)["attempts"]) == ("new", 0)
    desk.clerk.failure = None
    await desk.run()
    assert desk.row(id)["state"] == "new", "asked a moment ago"
    desk.clock.advance(RETRY_INTERVAL)
    await desk.run()
    assert desk.row(id)["state"] == "settled"
