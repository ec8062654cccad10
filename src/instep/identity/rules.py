"""The law of the mirror: which news wins. One function, for webhook, sync and the answers to our own writes."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from instep.identity.events import Gone, News, Seen
from instep.identity.model import Entity, Key

OLDER = "older"


class Known(Struct, frozen=True):
    """What the mirror holds of one thing: our id, Clerk's version, its digest, and whether it is dead."""

    id: str
    version: int
    digest: str
    is_gone: bool


class Change(Struct, frozen=True):
    """Write this. `known` is what was there before, None for something new."""

    news: News
    known: Known | None

    @property
    def is_gone(self) -> bool:
        """Whether this is a deletion."""
        return isinstance(self.news, Gone)


class Ignored(Struct, frozen=True):
    """Nothing to write, and why: "older", "same" or "gone"."""

    reason: str


class AskAgain(Struct, frozen=True):
    """Not decidable from what is here: read `key` in Clerk and decide again.

    `entity` is what the undecided news says, where there is one: Clerk finds a membership only by its
    organization and user.
    """

    key: Key
    entity: Entity | None = None


Verdict = Change | Ignored | AskAgain


def decide(known: Known | None, news: News, *, is_read: bool = False) -> Verdict:
    """Which side wins, the mirror or the news.

    Dead beats live; else the greater version wins; an equal version with equal content is nothing new; an equal
    version with other content is asked again, unless `is_read` says that the news was just read from Clerk.
    No clock takes part: neither ours nor the time of sending.
    """
    if known is not None and known.is_gone:
        return Ignored("gone")
    if isinstance(news, Gone) or known is None or news.version > known.version:
        return Change(news, known)
    if news.version < known.version:
        return Ignored(OLDER)
    if news.digest == known.digest:
        return Ignored("same")
    return Change(news, known) if is_read else AskAgain(news.key, news.entity)


def after(change: Change, id: str) -> Known:
    """What the mirror knows once `change` is written under our `id`."""
    if isinstance(change.news, Seen):
        return Known(id, change.news.version, change.news.digest, is_gone=False)
    before = change.known
    return Known(id, before.version if before else 0, before.digest if before else "", is_gone=True)


def merged(kept: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`kept` with `patch` merged in, deeply, as Clerk merges metadata: a None takes a key away (RFC 7396)."""
    result = dict(kept)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            before = result.get(name)
            result[name] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[name] = value
    return result
