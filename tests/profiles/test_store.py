"""Everyone, page by page: in one order, each once, and only whoever was asked for; however they are looked for."""

import pytest
from msgspec.structs import replace

from instep.identity.events import News
from instep.kit.db import Conn, Db
from instep.kit.sought import is_found
from instep.mirror import search
from instep.mirror.apply import take_in
from instep.mirror.people import PersonRow
from instep.profiles.profile import Ask, Cursor
from instep.profiles.store import list_people
from tests.support.people import membership, organization, user

NAMES = ["Ada", "Zoë", "Adam", "Bo", "100%", "a_b", "Ада", "Ada", "Dada", "Cy"]


def fill(conn: Conn) -> None:
    news: list[News] = [organization(1), organization(2)]
    for n, name in enumerate(NAMES, 1):
        news += [user(n, first_name=name, last_name=None), membership(n, of=n, in_=1 + n % 2)]
    take_in(conn, news, now=1)


def turn(conn: Conn, ask: Ask) -> list[PersonRow]:
    """Every page, as a reader turns them."""
    found: list[PersonRow] = []
    while True:
        rows = list_people(conn, ask)
        found += rows[: ask.limit]
        if len(rows) <= ask.limit:
            return found
        last = found[-1]
        ask = replace(ask, cursor=Cursor(last.joined_at, last.id))


@pytest.mark.parametrize("walks", [((0, 1),), ((2, 1), (3, 0)), ((1, 0), (1, 1), (3, 0)), search.WALKS])
def test_the_pages_show_whoever_was_asked_for_exactly_once(
    db: Db, monkeypatch: pytest.MonkeyPatch, walks: tuple[tuple[int, int], ...]
) -> None:
    monkeypatch.setattr(search, "walks", lambda *_: walks)
    db.writing(fill)
    for query in ("", "ADA", "ad", "zoe", "%", "_b", "ада", "person", "nobody", "ada example"):
        for organization_id in (None, "org_1"):
            for limit in (1, 3, 50):
                ask = Ask(limit=limit, query=query, organization=organization_id)
                found = db.reading(turn, ask)
                wanted = [
                    (n, name)
                    for n, name in enumerate(NAMES, 1)
                    if is_found(query, (name, f"person{n}@example.com")) and (organization_id is None or n % 2 == 0)
                ]
                assert [it.first_name for it in found] == [name for _, name in reversed(wanted)], (query, limit)


@pytest.mark.parametrize("walks", [((0, 1),), ((3, 1), (5, 2), (20, 0)), ((70, 0),), search.WALKS])
def test_a_frequent_name_is_found_newest_first_wherever_a_walk_ends(
    db: Db, monkeypatch: pytest.MonkeyPatch, walks: tuple[tuple[int, int], ...]
) -> None:
    names = [("Maya" if 20 < n < 60 else f"Di{'maya' * (n % 9 == 0)}") for n in range(1, 81)]

    def furnish(conn: Conn) -> None:
        last = ("Cohen", "Levi")
        take_in(conn, [user(n, first_name=name, last_name=last[n % 2]) for n, name in enumerate(names, 1)], now=1)

    db.writing(furnish)
    everyone = db.reading(list_people, Ask(limit=100))
    assert [it.joined_at for it in everyone] == sorted((it.joined_at for it in everyone), reverse=True)
    monkeypatch.setattr(search, "walks", lambda *_: walks)
    for query in ("maya", "may", "aya", "maya cohen", "levi di", "m c", "nobody"):
        wanted = [it for it in everyone if is_found(query, (it.first_name, it.last_name, it.email))]
        for limit in (4, 25):
            assert db.reading(turn, Ask(limit=limit, query=query)) == wanted, (query, limit)


def test_a_word_that_is_an_address_or_an_id_means_that_person_if_they_are_asked_for(db: Db) -> None:
    db.writing(fill)
    ada = next(it for it in db.reading(list_people, Ask(limit=50)) if it.email == "person1@example.com")
    for word in (ada.id, ada.clerk_id, "person1@example.com", "PERSON1@Example.com"):
        assert word is not None
        assert db.reading(list_people, Ask(query=word)) == [ada]
        assert db.reading(list_people, Ask(query=word, organization="org_1")) == []
        assert db.reading(list_people, Ask(query=word, organization="org_2")) == [ada]
        assert db.reading(list_people, Ask(query=word, statuses=frozenset({"banned"}))) == []
