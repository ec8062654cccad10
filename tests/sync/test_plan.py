"""What differs is the same however both sides are cut into pages, and each difference belongs to one side."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from instep.domain.events import Observation, make_observation
from instep.domain.listing import MirroredEntity
from instep.domain.models import ClerkId, ClerkUser, EntityKind
from instep.sync import plan
from instep.sync.plan import Comparison, FieldOwnership, Finding
from tests.support.people import membership, user

names = st.sampled_from(["Ada", "Bo", None])
metadata = st.sampled_from(["{}", '{"a":1,"b":[2]}', '{"b": [2], "a": 1}', '{"a": 2}'])


def compare(
    theirs: Iterable[Observation], ours: Iterable[MirroredEntity], policy: FieldOwnership, *, kind: EntityKind
) -> list[Finding]:
    """Return the differences between two complete sides."""
    comparison = Comparison(theirs, policy, kind=kind)
    return [*comparison.take(ours), *comparison.rest()]


@st.composite
def sides(draw: Any) -> tuple[list[Observation], list[MirroredEntity]]:
    """Some people on both sides, in the order in which they were made."""
    theirs, ours = [], []
    for n in range(draw(st.integers(0, 12))):
        at = draw(st.integers(0, 6))
        if draw(st.booleans()):
            raw = msgspec.Raw(draw(metadata).encode())
            person = ClerkUser(
                clerk_id=ClerkId(f"user_{n}"),
                first_name=draw(names),
                public_metadata=raw,
                joined_at=at,
                is_banned=draw(st.booleans()),
            )
            theirs.append(make_observation(person, draw(st.integers(0, 3))))
        if draw(st.booleans()):
            content = (
                None,
                False,
                draw(names),
                None,
                None,
                None,
                draw(st.booleans()),
                draw(st.booleans()),
                draw(metadata),
            )
            is_gone, is_kept = draw(st.booleans()), draw(st.booleans())
            ours.append(
                MirroredEntity(
                    f"user_{n}", f"usr_{n}", draw(st.integers(0, 3)), "d", is_gone, is_kept, False, at, content
                )
            )
    return theirs, ours


def gist(found: list[Finding]) -> set[Any]:
    return {
        (it.kind, it.key.id, it.here, tuple((d.field, str(d.clerk), str(d.here)) for d in it.differences))
        for it in found
    }


@given(sides(), st.lists(st.integers(0, 7), max_size=4), st.integers(1, 3))
def test_the_findings_do_not_depend_on_paging(both: Any, cuts: list[int], part: int) -> None:
    theirs, ours = both
    whole = compare(theirs, ours, FieldOwnership(), kind="user")
    edges = sorted({0, 100, *cuts})
    found: list[Finding] = []
    for since, until in pairwise(edges):
        page = [it for it in theirs if since <= it.entity.joined_at < until]
        rows = [it for it in ours if since <= it.changed_at < until]
        comparison = Comparison(page, FieldOwnership(), kind="user")
        for start in range(0, len(rows), part):
            found += comparison.take(rows[start : start + part])
        found += comparison.rest()
    at = {it.key.id: it.entity.joined_at for it in theirs}
    moved = {it.clerk_id for it in ours if at.get(ClerkId(it.clerk_id), it.changed_at) != it.changed_at}
    assert {it for it in gist(found) if it[1] not in moved} == {it for it in gist(whole) if it[1] not in moved}


@given(sides())
def test_every_row_is_found_once_or_equal(both: Any) -> None:
    theirs, ours = both
    found = compare(theirs, ours, FieldOwnership(), kind="user")
    assert len({it.key.id for it in found}) == len(found)
    here = {it.clerk_id: it for it in ours}
    there = {it.key.id: it for it in theirs}
    for finding in found:
        our, their = here.get(finding.key.id), there.get(finding.key.id)
        if finding.kind == "missing_here":
            assert our is None
        elif finding.kind == "missing_in_clerk":
            assert their is None
            assert our is not None
            assert not our.is_deleted
            assert not our.is_kept
        else:
            assert our is not None
            assert their is not None
    for id in here.keys() & there.keys() - {it.key.id for it in found}:
        their, our = there[id], here[id]
        assert their.entity.first_name == our.content[2]
        assert not our.is_deleted


def test_json_is_compared_by_content() -> None:
    assert plan.is_equal_value(msgspec.Raw(b'{"a":1,"b":2}'), '{"b": 2, "a": 1}')
    assert not plan.is_equal_value(msgspec.Raw(b'{"a":1}'), '{"a": 2}')
    assert not plan.is_equal_value(msgspec.Raw(b'{"a":1}'), None)


def our(their: Observation, **changes: Any) -> MirroredEntity:
    person = their.entity
    assert isinstance(person, ClerkUser)
    content = (*person.content()[:-1], bytes(person.public_metadata).decode())
    fields: dict[str, Any] = {"clerk_id": their.key.id, "id": "usr_1", "version": their.version, "digest": their.digest}
    fields |= {"is_deleted": False, "is_kept": False, "is_deactivated": False, "changed_at": 5, "content": content}
    return MirroredEntity(**(fields | changes))


def test_the_last_writer_is_reported() -> None:
    older, newer = user(1, version=1), user(1, version=2, first_name="New")
    (found,) = compare([newer], [our(older)], FieldOwnership(), kind="user")
    assert (found.wrote_last, found.wrote_at) == ("clerk", 2)
    edited = our(newer, content=our(older).content, changed_at=99)
    (found,) = compare([newer], [edited], FieldOwnership(), kind="user")
    assert (found.wrote_last, found.wrote_at) == ("database", 99)


def test_the_source_of_truth_is_the_side_that_is_not_fixed() -> None:
    older, newer = user(1, version=1), user(1, version=2, first_name="New", last_name="Also")
    (found,) = compare([newer], [our(older)], FieldOwnership(), kind="user")
    assert (found.repair_target, {it.owner for it in found.differences}) == ("here", {"clerk"})
    (found,) = compare([newer], [our(older)], FieldOwnership(frozenset({"first_name"})), kind="user")
    assert found.repair_target == "clerk"
    assert {it.field: it.owner for it in found.differences} == {"first_name": "database", "last_name": "clerk"}


def test_deactivation_is_ours_unless_the_settings_say_otherwise() -> None:
    their = user(1)
    out = our(their, is_deactivated=True)
    assert compare([their], [out], FieldOwnership(), kind="user") == []
    (found,) = compare([their], [out], FieldOwnership(frozenset()), kind="user")
    assert (found.kind, found.repair_target) == ("status_differs", None)


def test_bans_and_roles_have_their_own_kinds() -> None:
    banned = user(1, version=2, is_banned=True)
    (found,) = compare([banned], [our(user(1))], FieldOwnership(), kind="user")
    assert found.kind == "status_differs"
    admin = membership(1, version=2, role="org:admin")
    row = MirroredEntity("orgmem_1", "mbr_1", 1, "", False, False, False, 0, ("org:member",))
    (found,) = compare([admin], [row], FieldOwnership(), kind="membership")
    assert found.kind == "role_differs"


def test_the_deletion_limit_is_ten_rows_or_one_percent() -> None:
    assert [plan.compute_deletion_limit(active_ids) for active_ids in (0, 5, 1_000, 1_100, 50_000)] == [
        10,
        10,
        10,
        11,
        500,
    ]
    assert plan.compute_deletion_limit(50_000, 3) == 3
    assert plan.find_kind_over_limit({"user": 11}, {"user": 900}, None) == "user"
    assert plan.find_kind_over_limit({"user": 10}, {"user": 900}, None) is None
    assert plan.find_kind_over_limit({"user": 11}, {"user": 900}, 11) is None
