"""Normalized search texts and queries of the trigram index."""

import string
import unicodedata
from collections.abc import Iterable

TRIGRAM_LENGTH = 3  # characters; shorter terms match only the beginnings of words
_MAX_INDEX_TERM_LENGTH = 10  # characters
_WORD_PREFIX = "  "
# Symbols that every address has get codes that no name has; PostgreSQL's trigrams ignore case.
_COMMON_SYMBOLS = {"@": "X", ".": "Q", "-": "J"}
_DIGITS = "ABCDEFGHIKLMNOPRSTUV"
# Lead characters and the number of digits that follow. No digit is a lead, so that no code begins within another.
_LEAD_CHARACTERS = (("Z", 3), ("Y", 4), ("W", 5))


class _CharacterCodes(dict[int, str]):
    def __missing__(self, point: int) -> str:
        lead, width = next(lead for lead in _LEAD_CHARACTERS if point < len(_DIGITS) ** lead[1])
        digits = ""
        for _ in range(width):
            point, digit = divmod(point, len(_DIGITS))
            digits = _DIGITS[digit] + digits
        return lead + digits


_PLAIN_CHARACTERS = string.ascii_lowercase + string.digits + " "
_PLAIN_BYTES = (_PLAIN_CHARACTERS + "".join(_COMMON_SYMBOLS)).encode()
_COMMON_SYMBOL_BYTES = bytes.maketrans("".join(_COMMON_SYMBOLS).encode(), "".join(_COMMON_SYMBOLS.values()).encode())
_CHARACTER_CODES = _CharacterCodes(
    {ord(plain): plain for plain in _PLAIN_CHARACTERS} | {ord(symbol): code for symbol, code in _COMMON_SYMBOLS.items()}
)


def fold_text(text: str) -> str:
    """Normalize case, accents and equivalent characters: `Zoë` becomes `zoe`."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if unicodedata.category(character) not in ("Mn", "Cf"))


def build_search_text(parts: Iterable[str | None]) -> str:
    """Return the text by which names and addresses are found, with each word once."""
    words = dict.fromkeys(fold_text(" ".join([part for part in parts if part])).split())
    return _encode(_WORD_PREFIX + _WORD_PREFIX.join(words)) if words else ""


def _encode(text: str) -> str:
    """Encode the text in searchable characters. Most texts are plain, and translating bytes is faster."""
    raw = text.encode() if text.isascii() else b"?"
    return (
        raw.translate(_COMMON_SYMBOL_BYTES).decode()
        if not raw.translate(None, _PLAIN_BYTES)
        else text.translate(_CHARACTER_CODES)
    )


def parse_search_query(query: str) -> tuple[str, ...]:
    """Return the terms that a search text must all contain to match the query.

    A word matches any part of a name or an address. One or two of a-z, 0-9, @, dot and hyphen match a beginning of one.
    """
    encoded = dict.fromkeys(word.translate(_CHARACTER_CODES) for word in fold_text(query).split())
    return tuple(
        word if len(word) >= TRIGRAM_LENGTH else _WORD_PREFIX[len(word) - TRIGRAM_LENGTH :] + word for word in encoded
    )


def is_search_match(query: str, parts: Iterable[str | None]) -> bool:
    """Return whether these names and addresses match the query."""
    text = build_search_text(parts)
    return all(term in text for term in parse_search_query(query))


def select_index_term(term: str) -> str:
    """Return the part of a term to look up in the index: the beginning of the part before the @.

    Each trigram that all rows have (of `@example.com`) costs a scan of a long list, and excludes nothing.
    """
    before, _, _ = term.partition(_COMMON_SYMBOLS["@"])
    return (before if len(before) >= TRIGRAM_LENGTH else term)[:_MAX_INDEX_TERM_LENGTH]


def list_trigrams(term: str) -> list[str]:
    """Return the trigrams of a term, without duplicates."""
    return list(dict.fromkeys(term[start : start + TRIGRAM_LENGTH] for start in range(len(term) - TRIGRAM_LENGTH + 1)))
