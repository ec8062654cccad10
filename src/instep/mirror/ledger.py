"""What one transaction knows and is about to write: news are taken one by one, each decided by the law."""

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from instep.identity.addresses import canonical
from instep.identity.events import News, Seen
from instep.identity.model import Key, Membership, User
from instep.identity.rules import Answer, AskAgain, Change, Known, Verdict, after, decide
from instep.kit.db import Conn
from instep.kit.ids import new_id
from instep.mirror.store import Kept, find_kept, find_known, find_ours, find_unlinked

Pair = tuple[str, str]

_OURS = re.compile(r"usr_[0-9a-f]{26}")
_PREFIX = {"user": "usr", "organization": "ogn", "membership": "mbr"}


class Entry(Struct, frozen=True):
    """One thing to write: the last news of it that won, our id of it, and what the mirror had of it before.

    `replaces`: the memberships that this one is instead of, with the id of a grave for each.
    """

    news: News
    id: str
    before: Known | None
    replaces: Mapping[str, str] = {}

    @property
    def is_new(self) -> bool:
        """Whether the mirror did not have it."""
        return self.before is None

    @property
    def was_gone(self) -> bool:
        """Whether the mirror called it dead."""
        return self.before is not None and self.before.is_gone


class Joined(Struct, frozen=True, kw_only=True):
    """A membership of a local organization that was made for someone who signed up by an invitation to it."""

    membership_id: str
    organization_id: str
    user_id: str
    role: str


class Ledger:
    """Decides news against the mirror and against what was taken before in the same transaction.

    `joined` is what followed from them, once they are written.
    """

    def __init__(
        self, known: dict[Key, Known], unlinked: dict[str, str], kept: dict[Pair, Kept], ours: dict[str, bool]
    ) -> None:
        self.known = known
        self._unlinked = unlinked
        self._kept = kept
        self._ours = ours
        self._graves: dict[str, dict[str, str]] = {}
        self._before: dict[Key, Known | None] = {}
        self._last: dict[Key, News] = {}
        self.joined: list[Joined] = []

    def answer(self, answer: Answer) -> Verdict:
        """Decide what a reading found."""
        return self.take(answer.news, is_read=True, asked=answer.known)

    def take(self, news: News, *, is_read: bool = False, asked: Known | None = None) -> Verdict:
        """Decide one piece of news; a membership whose parent is not here yet asks for the parent first."""
        known = self.known.get(news.key) or self._local(news)
        if isinstance(news.entity, Membership) and known is None:
            for parent in parents_of(news.entity):
                if parent not in self.known:
                    return AskAgain(parent)
            known = self._move(news)
        standing = known
        if known is not None and known.absent_at is not None and self._has_dead_parent(news):
            # What is said of it counts for the day on which it lives again, with its parent and not before.
            standing = replace(known, is_gone=False, absent_at=None)
        verdict = decide(standing, news, is_read=is_read, asked=asked)
        if isinstance(verdict, Change):
            self._before.setdefault(news.key, known)
            self.known[news.key] = after(verdict, known.id if known else self._new_id(news))
            self._last[news.key] = news
        return verdict

    def entries(self) -> list[Entry]:
        """Everything that must be written."""
        graves = self._graves
        return [
            Entry(news, id := self.known[key].id, self._before[key], graves.get(id, {}))
            for key, news in self._last.items()
        ]

    def _has_dead_parent(self, news: News) -> bool:
        if not isinstance(news, Seen) or not isinstance(news.entity, Membership):
            return False
        return any(it in self.known and self.known[it].is_gone for it in parents_of(news.entity))

    def _move(self, news: News) -> Known | None:
        """Someone who is deactivated, and whom Clerk removed for that, is a member there again: it is the same row.

        Not for a membership that ended before the one which the row stands for now: that one is dead already.
        """
        if not isinstance(news, Seen) or not isinstance(news.entity, Membership):
            return None
        pair = _pair(news.entity)
        kept = self._kept.get(pair)
        if kept is None:
            return None
        if kept.clerk_id != news.key.id:
            grave = Known(new_id("mbr"), 0, "", is_gone=True)
            if 0 < news.entity.joined_at < kept.version:  # 0: not known
                return grave
            old = Key("membership", kept.clerk_id)
            self.known[old] = grave
            self._last.pop(old, None)
            self._graves.setdefault(kept.id, {})[kept.clerk_id] = grave.id
            self._kept[pair] = Kept(kept.id, news.key.id, news.version)
        return Known(kept.id, 0, "", is_gone=False)

    def _local(self, news: News) -> Known | None:
        """A person we knew before Clerk did, who has no Clerk account yet: our id, or the same verified address."""
        if (own := _own_id(news)) and self._ours.get(own):
            self._ours[own] = False
            return Known(own, 0, "", is_gone=False)
        email = _linking_email(news)
        id = self._unlinked.pop(canonical(email), None) if email else None
        return Known(id, 0, "", is_gone=False) if id else None

    def _new_id(self, news: News) -> str:
        """The id that we gave a person before Clerk made them, if nobody has it; else a new one."""
        own = _own_id(news)
        if own is None or own in self._ours:
            return new_id(_PREFIX[news.key.kind])
        self._ours[own] = False
        return own


def open_ledger(conn: Conn, news: Sequence[News]) -> Ledger:
    """A ledger that knows everything these news are about; their rows stay ours until the transaction ends."""
    known = find_known(conn, keys_of(news))
    new = [it for it in news if it.key not in known]
    unlinked = find_unlinked(conn, [email for it in new if (email := _linking_email(it))])
    ours = find_ours(conn, [own for it in new if (own := _own_id(it))])
    kept = find_kept(conn, [_pair(it.entity) for it in new if isinstance(it.entity, Membership)])
    return Ledger(known, unlinked, kept, ours)


def keys_of(news: Iterable[News]) -> set[Key]:
    """Everything that must be looked up before these news can be decided: the things and their parents."""
    keys: set[Key] = set()
    for item in news:
        keys.add(item.key)
        if isinstance(item.entity, Membership):
            keys.update(parents_of(item.entity))
    return keys


def parents_of(membership: Membership) -> tuple[Key, Key]:
    """The user and the organization of a membership."""
    return Key("user", membership.user), Key("organization", membership.organization)


def _pair(membership: Membership) -> Pair:
    return membership.organization, membership.user


def _linking_email(news: News) -> str | None:
    if isinstance(news, Seen) and isinstance(news.entity, User) and news.entity.is_email_verified:
        return news.entity.email
    return None


def _own_id(news: News) -> str | None:
    """The external id, where it is one that we gave; only our own server can set it in Clerk."""
    if isinstance(news, Seen) and isinstance(news.entity, User) and _OURS.fullmatch(news.entity.external_id or ""):
        return news.entity.external_id
    return None
