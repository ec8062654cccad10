"""Sentences that are made where no reader is known, and said in the reader's language later. Pure."""

from typing import Any


class Said(str):
    """A sentence in English, with the message and the values that it was made of (see Words.say).

    It is for failures and pages; msgspec writes only plain texts, so that what is kept or sent is `str(...)` of it.
    """

    __slots__ = ("message", "values")

    message: str
    values: dict[str, Any]


def said(message: str, /, **values: Any) -> Said:
    """A sentence: `message` with its `%(name)s` filled in. Messages in such calls are found by `make messages`."""
    sentence = Said(message % values if values else message)
    sentence.message, sentence.values = message, values
    return sentence
