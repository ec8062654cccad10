"""Relative times and initials of names."""

from gettext import GNUTranslations, NullTranslations

import pytest

from instep.core.clock import DAY, HOUR, MINUTE, SECOND
from instep.core.i18n import Localizer
from instep.core.templates import make_initials, pick_avatar_color

NOW = 1_772_000_000_000  # 25 February 2026, 06:13 UTC


@pytest.mark.parametrize(
    ("back", "said"),
    [
        (-MINUTE, "just now"),
        (999, "just now"),
        (2 * SECOND, "2 s ago"),
        (MINUTE, "1 min ago"),
        (3 * HOUR - 1, "2 h ago"),
        (3 * DAY, "3 d ago"),
        (30 * DAY - 1, "29 d ago"),
        (30 * DAY, "26 Jan"),
        (70 * DAY, "17 Dec 2025"),
    ],
)
def test_past_times(back: int, said: str) -> None:
    assert Localizer().ago(NOW - back, NOW).text == said


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (7 * DAY - MINUTE, "in 7 d"),
        (4 * DAY + HOUR, "in 4 d"),
        (2 * DAY, "in 2 d"),
        (2 * DAY - 1, "in 47 h"),
        (90 * SECOND, "in 1 min"),
        (0, "in 1 min"),
        (-DAY, "in 1 min"),
    ],
)
def test_future_times(ahead: int, said: str) -> None:
    assert Localizer().until(NOW + ahead, NOW).text == said


def test_a_relative_time_has_the_absolute_one() -> None:
    when = Localizer().ago(NOW - 3 * DAY, NOW)
    assert (when.title, when.iso) == ("22 February 2026, 06:13 UTC", "2026-02-22T06:13:20.000Z")


def test_the_page_updates_times_in_the_same_format() -> None:
    units = Localizer().list_elapsed_patterns()
    assert units["min"].replace("{}", "5") == Localizer().format_elapsed(5 * MINUTE)


class Backwards(NullTranslations):
    """A catalogue that shows whether a message went through it."""

    def gettext(self, message: str) -> str:
        return f"<{message}>"


def test_texts_come_from_the_catalog() -> None:
    assert Localizer(Backwards()).gettext("Active") == "<Active>"
    assert Localizer(Backwards()).gettext("%(n)s d ago", n=3) == "<3 d ago>"
    assert not isinstance(Localizer().catalog, GNUTranslations)


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("Maya Cohen", "MC"),
        ("Zoë de Vries", "ZV"),
        ("maya.cohen@x.example", "M"),
        ("Cher", "C"),
        ("", "?"),
        ("(x)", "?"),
    ],
)
def test_initials(name: str, letters: str) -> None:
    assert make_initials(name) == letters


def test_a_key_keeps_its_color() -> None:
    assert pick_avatar_color("Maya Cohen") == pick_avatar_color("Maya Cohen")
    assert {pick_avatar_color(f"person {n}") for n in range(100)} == set(range(8))
