"""Pages of users: in one order, each user once, and only the matching ones, by every way of searching."""

import pytest
from msgspec.structs import replace

from instep.core.db import Conn, Database
from instep.domain.events import EntityState
from instep.mirror import search
from instep.mirror.apply import apply_observations
from instep.mirror.search import is_search_match
from instep.mirror.user_repository import UserRow
from instep.users.models import UserCursor, UserFilter
from instep.users.repository import list_users
from tests.support.people import membership, organization, user

NAMES = ["Ada", "Zoë", "Adam", "Bo", "100%", "a_b", "Ада", "Ada", "Dada", "Cy"]


def fill(conn: Conn) -> None:
    states: list[EntityState] = [organization(1), organization(2)]
    for n, name in enumerate(NAMES, 1):
        states += [user(n, first_name=name, last_name=None), membership(n, of=n, in_=1 + n % 2)]
    apply_observations(conn, states, now=1)


def read_all_pages(conn: Conn, user_filter: UserFilter) -> list[UserRow]:
    """Return the users of all pages."""
    found: list[UserRow] = []
    while True:
        rows = list_users(conn, user_filter)
        found += rows[: user_filter.limit]
        if len(rows) <= user_filter.limit:
            return found
        last = found[-1]
        user_filter = replace(user_filter, cursor=UserCursor(last.joined_at, last.id))


@pytest.mark.parametrize("walks", [((0, 1),), ((2, 1), (3, 0)), ((1, 0), (1, 1), (3, 0)), search.SCAN_STEPS])
def test_the_pages_show_each_matching_user_once(
    db: Database, monkeypatch: pytest.MonkeyPatch, walks: tuple[tuple[int, int], ...]
) -> None:
    monkeypatch.setattr(search, "plan_scan_steps", lambda *_: walks)
    db.write_sync(fill)
    for query in ("", "ADA", "ad", "zoe", "%", "_b", "ада", "person", "nobody", "ada example"):
        for organization_id in (None, "org_1"):
            for limit in (1, 3, 50):
                user_filter = UserFilter(limit=limit, query=query, organization=organization_id)
                found = db.read_sync(read_all_pages, user_filter)
                wanted = [
                    (n, name)
                    for n, name in enumerate(NAMES, 1)
                    if is_search_match(query, (name, f"person{n}@example.com"))
                    and (organization_id is None or n % 2 == 0)
                ]
                assert [it.first_name for it in found] == [name for _, name in reversed(wanted)], (query, limit)


@pytest.mark.parametrize("walks", [((0, 1),), ((3, 1), (5, 2), (20, 0)), ((70, 0),), search.SCAN_STEPS])
def test_a_frequent_name_is_found_newest_first_wherever_a_scan_ends(
    db: Database, monkeypatch: pytest.MonkeyPatch, walks: tuple[tuple[int, int], ...]
) -> None:
    names = [("Maya" if 20 < n < 60 else f"Di{'maya' * (n % 9 == 0)}") for n in range(1, 81)]

    def furnish(conn: Conn) -> None:
        last = ("Cohen", "Levi")
        apply_observations(
            conn, [user(n, first_name=name, last_name=last[n % 2]) for n, name in enumerate(names, 1)], now=1
        )

    db.write_sync(furnish)
    everyone = db.read_sync(list_users, UserFilter(limit=100))
    assert [it.joined_at for it in everyone] == sorted((it.joined_at for it in everyone), reverse=True)
    monkeypatch.setattr(search, "plan_scan_steps", lambda *_: walks)
    for query in ("maya", "may", "aya", "maya cohen", "levi di", "m c", "nobody"):
        wanted = [it for it in everyone if is_search_match(query, (it.first_name, it.last_name, it.email))]
        for limit in (4, 25):
            assert db.read_sync(read_all_pages, UserFilter(limit=limit, query=query)) == wanted, (query, limit)


def test_an_exact_address_or_id_matches_that_user_within_the_filter(db: Database) -> None:
    db.write_sync(fill)
    ada = next(it for it in db.read_sync(list_users, UserFilter(limit=50)) if it.email == "person1@example.com")
    for word in (ada.id, ada.clerk_id, "person1@example.com", "PERSON1@Example.com"):
        assert word is not None
        assert db.read_sync(list_users, UserFilter(query=word)) == [ada]
        assert db.read_sync(list_users, UserFilter(query=word, organization="org_1")) == []
        assert db.read_sync(list_users, UserFilter(query=word, organization="org_2")) == [ada]
        assert db.read_sync(list_users, UserFilter(query=word, statuses=frozenset({"banned"}))) == []
