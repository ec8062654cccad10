"""Text that can be searched, and what is looked for in it: folded alike for every database. Pure.

The text of a person is their words, each with two spaces before it, in nothing but a-z, 0-9 and capitals that stand for
all other signs. So a word is any part of that text (`maya` of `  maya  cohen`), one or two letters can be held to the
beginning of a word (`  m`), three signs always make a trigram, whatever a database's locale takes for a letter, and no
pattern of any search has a sign with a meaning of its own.
"""

import string
import unicodedata
from collections.abc import Iterable

SHORT = 3  # signs; below that a trigram index knows only the beginnings of words
_NARROW = 10  # signs
_START = "  "
# PostgreSQL's trigrams do not tell capitals from small letters: what every address has is no sign that names have.
_OFTEN = {"@": "X", ".": "Q", "-": "J"}
_DIGITS = "ABCDEFGHIKLMNOPRSTUV"
_LEADS = (("Z", 3), ("Y", 4), ("W", 5))  # how many digits follow; no digit is a lead, so that no code begins in another


class _Codes(dict[int, str]):
    def __missing__(self, point: int) -> str:
        lead, width = next(it for it in _LEADS if point < len(_DIGITS) ** it[1])
        digits = ""
        for _ in range(width):
            point, digit = divmod(point, len(_DIGITS))
            digits = _DIGITS[digit] + digits
        return lead + digits


_PLAIN = string.ascii_lowercase + string.digits + " "
_PLAIN_BYTES = (_PLAIN + "".join(_OFTEN)).encode()
_OFTEN_BYTES = bytes.maketrans("".join(_OFTEN).encode(), "".join(_OFTEN.values()).encode())
_CODES = _Codes({ord(it): it for it in _PLAIN} | {ord(sign): code for sign, code in _OFTEN.items()})


def fold(text: str) -> str:
    """The text without its case, its accents and the different ways of writing one sign: `Zoë` is `zoe`."""
    if text.isascii():
        return text.lower()
    parted = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(it for it in parted if unicodedata.category(it) not in ("Mn", "Cf"))


def searchable(parts: Iterable[str | None]) -> str:
    """What names and addresses are found by; each word of them once."""
    words = dict.fromkeys(fold(" ".join([part for part in parts if part])).split())
    return _coded(_START + _START.join(words)) if words else ""


def _coded(text: str) -> str:
    """The text in signs that are searched. Most are plain, and bytes are faster."""
    raw = text.encode() if text.isascii() else b"?"
    return raw.translate(_OFTEN_BYTES).decode() if not raw.translate(None, _PLAIN_BYTES) else text.translate(_CODES)


def needles(query: str) -> tuple[str, ...]:
    """What a searchable text must hold, all of it, to be found by these words.

    A word is any part of a name or an address. One or two of a-z, 0-9, @, dot and hyphen are the beginning of one.
    """
    coded = dict.fromkeys(word.translate(_CODES) for word in fold(query).split())
    return tuple(word if len(word) >= SHORT else _START[len(word) - SHORT :] + word for word in coded)


def is_found(query: str, parts: Iterable[str | None]) -> bool:
    """Whether somebody with these names and addresses is meant by these words."""
    text = searchable(parts)
    return all(needle in text for needle in needles(query))


def narrowing(needle: str) -> str:
    """The part of a needle that an index is asked for: of an address what is before the @, and of that the beginning.

    Each trigram that everyone has (of `@example.com`) costs a walk of a list of everyone, and narrows nothing.
    """
    before, _, _ = needle.partition(_OFTEN["@"])
    return (before if len(before) >= SHORT else needle)[:_NARROW]


def trigrams(needle: str) -> list[str]:
    """The trigrams of a needle, each once."""
    return list(dict.fromkeys(needle[place : place + SHORT] for place in range(len(needle) - SHORT + 1)))
