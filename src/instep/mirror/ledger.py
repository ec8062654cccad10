"""What one transaction knows and is about to write: news are taken one by one, each decided by the law."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from instep.identity.events import News, Seen
from instep.identity.model import Key, Membership, User
from instep.identity.rules import AskAgain, Change, Known, Verdict, after, decide
from instep.kit.db import Conn
from instep.kit.ids import new_id
from instep.mirror.store import find_known, find_unlinked

_PREFIX = {"user": "usr", "organization": "ogn", "membership": "mbr"}


class Entry(Struct, frozen=True):
    """One thing to write: the last news of it that won, our id of it, and whether the mirror had it before."""

    news: News
    id: str
    is_new: bool


class Ledger:
    """Decides news against the mirror and against what was taken before in the same transaction."""

    def __init__(self, known: dict[Key, Known], unlinked: dict[str, str]) -> None:
        self.known = known
        self._unlinked = unlinked
        self._is_new: dict[Key, bool] = {}
        self._last: dict[Key, News] = {}

    def take(self, news: News, *, is_read: bool = False) -> Verdict:
        """Decide one piece of news; a membership whose parent is not here yet asks for the parent first."""
        known = self.known.get(news.key) or self._local(news)
        if isinstance(news.entity, Membership) and known is None:
            for parent in parents_of(news.entity):
                if parent not in self.known:
                    return AskAgain(parent)
        verdict = decide(known, news, is_read=is_read)
        if isinstance(verdict, Change):
            self._is_new.setdefault(news.key, known is None)
            self.known[news.key] = after(verdict, known.id if known else new_id(_PREFIX[news.key.kind]))
            self._last[news.key] = news
        return verdict

    def entries(self) -> list[Entry]:
        """Everything that must be written."""
        return [Entry(news, self.known[key].id, self._is_new[key]) for key, news in self._last.items()]

    def _local(self, news: News) -> Known | None:
        """A person we knew before Clerk did: the same verified address, and no Clerk account yet."""
        email = _linking_email(news)
        id = self._unlinked.pop(email.lower(), None) if email else None
        return Known(id, 0, "", is_gone=False) if id else None


def open_ledger(conn: Conn, news: Sequence[News]) -> Ledger:
    """A ledger that knows everything these news are about; their rows stay ours until the transaction ends."""
    known = find_known(conn, keys_of(news))
    new_emails = [email for it in news if it.key not in known and (email := _linking_email(it))]
    return Ledger(known, find_unlinked(conn, new_emails))


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


def _linking_email(news: News) -> str | None:
    if isinstance(news, Seen) and isinstance(news.entity, User) and news.entity.is_email_verified:
        return news.entity.email
    return None
