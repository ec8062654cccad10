"""Normalized search texts and queries of the trigram index."""

import string
import unicodedata
from collections.abc import Iterable

TRIGRAM_LENGTH = 3  # signs; below that a trigram index knows only the beginnings of words
_MAX_INDEX_TERM_LENGTH = 10  # signs
_WORD_PREFIX = "  "
# PostgreSQL's trigrams do not tell capitals from small letters: what every address has is no sign that names have.
_COMMON_SYMBOLS = {"@": "X", ".": "Q", "-": "J"}
_DIGITS = "ABCDEFGHIKLMNOPRSTUV"
_LEAD_CHARACTERS = (
    ("Z", 3),
    ("Y", 4),
    ("W", 5),
)  # how many digits follow; no digit is a lead, so that no code begins in another


class _CharacterCodes(dict[int, str]):
    def __missing__(self, point: int) -> str:
        lead, width = next(it for it in _LEAD_CHARACTERS if point < len(_DIGITS) ** it[1])
        digits = ""
        for _ in range(width):
            point, digit = divmod(point, len(_DIGITS))
            digits = _DIGITS[digit] + digits
        return lead + digits


_PLAIN_CHARACTERS = string.ascii_lowercase + string.digits + " "
_PLAIN_BYTES = (_PLAIN_CHARACTERS + "".join(_COMMON_SYMBOLS)).encode()
_COMMON_SYMBOL_BYTES = bytes.maketrans("".join(_COMMON_SYMBOLS).encode(), "".join(_COMMON_SYMBOLS.values()).encode())
_CHARACTER_CODES = _CharacterCodes(
    {ord(it): it for it in _PLAIN_CHARACTERS} | {ord(sign): code for sign, code in _COMMON_SYMBOLS.items()}
)


def fold_text(text: str) -> str:
    """The text without its case, its accents and the different ways of writing one sign: `Zoë` is `zoe`."""
    if text.isascii():
        return text.lower()
    parted = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(it for it in parted if unicodedata.category(it) not in ("Mn", "Cf"))


def build_search_text(parts: Iterable[str | None]) -> str:
    """What names and addresses are found by; each word of them once."""
    words = dict.fromkeys(fold_text(" ".join([part for part in parts if part])).split())
    return _encode(_WORD_PREFIX + _WORD_PREFIX.join(words)) if words else ""


def _encode(text: str) -> str:
    """The text in signs that are searched. Most are plain, and bytes are faster."""
    raw = text.encode() if text.isascii() else b"?"
    return (
        raw.translate(_COMMON_SYMBOL_BYTES).decode()
        if not raw.translate(None, _PLAIN_BYTES)
        else text.translate(_CHARACTER_CODES)
    )


def parse_search_query(query: str) -> tuple[str, ...]:
    """What a searchable text must hold, all of it, to be found by these words.

    A word is any part of a name or an address. One or two of a-z, 0-9, @, dot and hyphen are the beginning of one.
    """
    coded = dict.fromkeys(word.translate(_CHARACTER_CODES) for word in fold_text(query).split())
    return tuple(
        word if len(word) >= TRIGRAM_LENGTH else _WORD_PREFIX[len(word) - TRIGRAM_LENGTH :] + word for word in coded
    )


def is_search_match(query: str, parts: Iterable[str | None]) -> bool:
    """Whether somebody with these names and addresses is meant by these words."""
    text = build_search_text(parts)
    return all(needle in text for needle in parse_search_query(query))


def select_index_term(needle: str) -> str:
    """The part of a needle that an index is asked for: of an address what is before the @, and of that the beginning.

    Each trigram that everyone has (of `@example.com`) costs a walk of a list of everyone, and narrows nothing.
    """
    before, _, _ = needle.partition(_COMMON_SYMBOLS["@"])
    return (before if len(before) >= TRIGRAM_LENGTH else needle)[:_MAX_INDEX_TERM_LENGTH]


def list_trigrams(needle: str) -> list[str]:
    """The trigrams of a needle, each once."""
    return list(
        dict.fromkeys(needle[place : place + TRIGRAM_LENGTH] for place in range(len(needle) - TRIGRAM_LENGTH + 1))
    )
