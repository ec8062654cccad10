"""Signs beside words: how a thing stands, never told by colour alone. Pure."""

from typing import Literal

from msgspec import Struct

Tone = Literal["good", "info", "warn", "bad", "brand", "quiet"]


class Badge(Struct, frozen=True):
    """A word beside a name."""

    text: str
    tone: Tone


class Status(Struct, frozen=True):
    """A status in words and by an icon."""

    text: str
    icon: str
    tone: Tone
