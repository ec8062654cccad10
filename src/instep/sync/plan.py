"""What differs between Clerk and the mirror, row by row, and which side each difference belongs to. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from instep.identity.events import OPTIONAL, Seen
from instep.identity.model import Key, Kind, Membership, User
from instep.identity.whole import FIELDS, Ours

Owner = Literal["clerk", "database"]
Mend = Literal["here", "clerk"]
FindingKind = Literal[
    "missing_here",
    "missing_in_clerk",
    "field_differs",
    "role_differs",
    "status_differs",
    "membership_only_in_clerk",
    "membership_only_here",
    "duplicate_email",
    "not_linked",
    "wrong_instance",
    "legacy_invited",
    "dead_here",
    "version_ahead",
    "not_whole",
    "unreadable",
]
AHEAD: FindingKind = "version_ahead"
DOUBTFUL: tuple[FindingKind, ...] = (AHEAD, "dead_here")


"""What a change during the scan looks like too: looked at a second time before it is said."""


GONE: tuple[FindingKind, ...] = ("missing_in_clerk", "membership_only_here")
OURS_BY_DEFAULT = frozenset({"deactivation", "attributes"})
WRITABLE = frozenset({"first_name", "last_name", "username", "external_id", "public_metadata", "role"})
LEAST_FUSE = 10
FUSE_PERCENT = 1
DEAD_HERE = "Deleted here, alive in Clerk. A deletion is final here: someone has to look at this one."
IS_AHEAD = "Version ahead of Clerk: webhooks about it were ignored as older. Clerk's values are taken when applied."
BACK = "Clerk did not show it before, and shows it again: it comes back with everything that is known of it here."


class Policy(Struct, frozen=True):
    """Which side each field belongs to: `database` names the database's, the rest is Clerk's."""

    database: frozenset[str] = OURS_BY_DEFAULT

    def owner(self, field: str) -> Owner:
        """Whose word counts for a field."""
        return "database" if field in self.database else "clerk"


class Difference(Struct, frozen=True):
    """One field that is not the same on both sides."""

    field: str
    clerk: Any
    here: Any
    owner: Owner


class Finding(Struct, frozen=True, kw_only=True):
    """One row that is not the same on both sides.

    `here` is our id, `version` and `digest` what the mirror held: the precondition of mending it. `mend` says on
    which side it is mended; None: a person has to look, and `note` says why. `wrote_last` is the side that changed it
    last, `wrote_at` when, in Unix milliseconds.
    """

    kind: FindingKind
    key: Key
    here: str | None = None
    label: str = ""
    differences: Sequence[Difference] = ()
    news: Seen | None = None
    version: int | None = None
    digest: str | None = None
    wrote_last: Owner | None = None
    wrote_at: int | None = None
    mend: Mend | None = "here"
    note: str | None = None


class Comparison:
    """What differs between all of Clerk's things of a stretch of time, and all of the mirror's of the same stretch.

    The mirror's may come in parts, in any order; `rest` is what no part had.
    """

    def __init__(self, theirs: Iterable[Seen], policy: Policy, *, kind: Kind) -> None:
        self._left: dict[str, Seen] = {it.key.id: it for it in theirs}
        self._policy = policy
        self._kind = kind

    def take(self, ours: Iterable[Ours]) -> Iterator[Finding]:
        """A part of the mirror's rows."""
        for our in ours:
            their = self._left.pop(our.clerk_id, None)
            if their is None:
                if not our.is_gone and not our.is_kept:
                    yield only_here(our, self._kind)
            elif finding := differing(their, our, self._policy):
                yield finding

    def rest(self) -> list[Finding]:
        """What only Clerk has."""
        return [only_there(their) for their in self._left.values()]


def compare(theirs: Iterable[Seen], ours: Iterable[Ours], policy: Policy, *, kind: Kind) -> list[Finding]:
    """What differs between two whole sides."""
    comparison = Comparison(theirs, policy, kind=kind)
    return [*comparison.take(ours), *comparison.rest()]


def only_there(their: Seen) -> Finding:
    """Clerk has it and the mirror does not."""
    return Finding(
        kind=_only_there(their.key.kind),
        key=their.key,
        label=label_of(their),
        news=their,
        wrote_last="clerk",
        wrote_at=their.version,
    )


def _only_there(kind: Kind) -> FindingKind:
    return "membership_only_in_clerk" if kind == "membership" else "missing_here"


def only_here(our: Ours, kind: Kind) -> Finding:
    """The mirror has it, alive, and Clerk does not."""
    what: FindingKind = "membership_only_here" if kind == "membership" else "missing_in_clerk"
    return Finding(
        kind=what,
        key=key_of(kind, our.clerk_id),
        here=our.id,
        version=our.version,
        digest=our.digest,
        wrote_last="database",
        wrote_at=our.changed_at,
    )


def differing(their: Seen, our: Ours, policy: Policy) -> Finding | None:
    """How a thing that both have differs; None where it does not."""
    kind = their.key.kind
    if our.is_gone and our.absent_at is None:
        return _about(their, our, "dead_here", [], mend=None, note=DEAD_HERE)
    if our.is_gone:
        return _about(their, our, _only_there(kind), [], mend="here", note=BACK)
    content = content_of(their)
    if content[:-1] == our.content[:-1] and is_same(content[-1], our.content[-1]):
        differences = []
    else:
        pairs = zip(FIELDS[kind], content, our.content, strict=True)
        differences = [
            Difference(name, _plain(there), _written(name, here), policy.owner(name))
            for name, there, here in pairs
            if (name not in their.absent or name in OPTIONAL) and not is_same(there, here)
        ]
    if our.is_deactivated and policy.owner("deactivation") == "clerk":
        differences.append(Difference("deactivated", False, True, "clerk"))
    if not differences:
        return None
    names = {it.field for it in differences}
    what: FindingKind = "field_differs"
    if kind == "membership" and "role" in names:
        what = "role_differs"
    elif names <= {"is_banned", "is_deprovisioned", "deactivated"}:
        what = "status_differs"
    mend, note = _mend(differences)
    return _about(their, our, what, differences, mend=mend, note=note)


def compared(their: Seen, our: Ours, policy: Policy) -> Finding | None:
    """Return how the contents differ, whatever the versions say; None where they do not.

    A version of ours that is greater than Clerk's does not make ours right (G3): the finding says so.
    """
    finding = differing(their, our, policy)
    if finding is None or our.version <= their.version or finding.kind == "dead_here":
        return finding
    return msgspec.structs.replace(finding, kind=AHEAD, note=IS_AHEAD if finding.mend else finding.note)


def content_of(their: Seen) -> tuple[Any, ...]:
    """What is compared, in the order of `FIELDS`: whose a membership is never changes."""
    entity = their.entity
    return (entity.role,) if isinstance(entity, Membership) else entity.content()


def is_same(there: Any, here: Any) -> bool:
    """Whether two values are the same; JSON is compared as what it says, not as it is written."""
    if not isinstance(there, msgspec.Raw):
        return bool(there == here)
    written = bytes(there)
    return written.decode() == here or bool(msgspec.json.decode(written) == msgspec.json.decode(here or "null"))


def label_of(their: Seen) -> str:
    """What to call a thing that only Clerk has."""
    entity = their.entity
    if isinstance(entity, Membership):
        return f"{entity.user} in {entity.organization}"
    if isinstance(entity, User):
        return str(entity.email or entity.username or entity.clerk_id)
    return entity.name


def fuse(living: int, allowed: int | None = None) -> int:
    """How many deletions pass: the greater of 10 rows and 1 %, or what a person allowed."""
    return max(LEAST_FUSE, living * FUSE_PERCENT // 100) if allowed is None else allowed


def is_over(gone: Mapping[Kind, int], living: Mapping[Kind, int], allowed: int | None) -> Kind | None:
    """The first kind of which more would be deleted than the fuse allows."""
    return next((kind for kind, count in gone.items() if count > fuse(living.get(kind, 0), allowed)), None)


def _about(
    their: Seen, our: Ours, kind: FindingKind, differences: Sequence[Difference], *, mend: Mend | None, note: str | None
) -> Finding:
    is_theirs = their.version > our.version
    return Finding(
        kind=kind,
        key=their.key,
        here=our.id,
        label=label_of(their),
        differences=differences,
        news=their,
        version=our.version,
        digest=our.digest,
        wrote_last="clerk" if is_theirs else "database",
        wrote_at=their.version if is_theirs else our.changed_at,
        mend=mend,
        note=note,
    )


def _mend(differences: Sequence[Difference]) -> tuple[Mend | None, str | None]:
    """Where a row is mended. One that has fields of the database's is written to Clerk, and then read back."""
    if any(it.field == "deactivated" for it in differences):
        return None, "Deactivated here: reactivate the person to let them in again."
    ours = {it.field for it in differences if it.owner == "database"}
    if not ours:
        return "here", None
    if ours <= WRITABLE:
        return "clerk", None
    return None, f"Belongs to the database, and can't be written to Clerk: {', '.join(sorted(ours - WRITABLE))}."


def _written(name: str, here: Any) -> Any:
    return msgspec.json.decode(here) if name == "public_metadata" and here else here


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def key_of(kind: Kind, id: str) -> Key:
    """The key of a thing."""
    return msgspec.convert({"kind": kind, "id": id}, Key)
