"""The question before a change: what it will do, and the two ways out of it. Pure."""

import secrets

from msgspec import Struct


class Confirm(Struct, frozen=True, kw_only=True):
    """A question. `verb` is the button's word, `action` where it is sent, `row` the row that waits for the answer.

    `choices` are (value, name) of a select named `field`. With `word` the button asks to have it typed; `why_not`
    says why it can't be done. `fields` go along unseen; `people` are listed. With the same `key` it is done once.
    """

    title: str
    verb: str
    action: str
    cancel: str
    consequences: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    row: str = ""
    is_destructive: bool = True
    word: str = ""
    why_not: str = ""
    field: str = ""
    label: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    chosen: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    is_in_place: bool = False
    key: str = ""


def new_key() -> str:
    """A key for one form."""
    return secrets.token_hex(16)
