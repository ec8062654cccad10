"""Compare Clerk's entities with the mirror's rows and decide how each difference is repaired."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from instep.domain.events import OPTIONAL_FIELDS, Observation
from instep.domain.listing import CONTENT_FIELDS, MirroredEntity
from instep.domain.models import ClerkMembership, ClerkUser, EntityKey, EntityKind

FieldOwner = Literal["clerk", "database"]
RepairTarget = Literal["here", "clerk"]
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
VERSION_AHEAD: FindingKind = "version_ahead"
RECHECKED_KINDS: tuple[FindingKind, ...] = (VERSION_AHEAD, "dead_here")  # a change during the scan looks the same
DELETION_KINDS: tuple[FindingKind, ...] = ("missing_in_clerk", "membership_only_here")
DATABASE_FIELDS_BY_DEFAULT = frozenset({"deactivation", "attributes"})
WRITABLE_FIELDS = frozenset({"first_name", "last_name", "username", "external_id", "public_metadata", "role"})
MIN_DELETION_LIMIT = 10
DELETION_LIMIT_PERCENT = 1
DELETED_HERE_NOTE = "Deleted here, but active in Clerk. A deletion here is final: this needs manual review."
VERSION_AHEAD_NOTE = (
    "Version ahead of Clerk: webhooks about it were ignored as older. Clerk's values are used when applied."
)
REAPPEARED_NOTE = (
    "It was missing in Clerk and exists again: it is restored with everything that is stored about it here."
)


class FieldOwnership(Struct, frozen=True):
    """Source of truth of each field: `database` names the database's fields, the others are Clerk's."""

    database: frozenset[str] = DATABASE_FIELDS_BY_DEFAULT

    def owner(self, field: str) -> FieldOwner:
        """Return the side that is the source of truth of a field."""
        return "database" if field in self.database else "clerk"


class FieldDifference(Struct, frozen=True):
    """One field with different values on the two sides."""

    field: str
    clerk: Any
    here: Any
    owner: FieldOwner


class Finding(Struct, frozen=True, kw_only=True):
    """One row that differs between the two sides.

    `here` is our id. `version` and `digest` are what the mirror had, the precondition of a repair. `repair_target` is
    the side on which it is fixed; None: it needs manual review, and `note` says why. `wrote_last` is the side that
    changed it last, `wrote_at` the time in Unix milliseconds. `observation` is Clerk's state, None where Clerk has
    none.
    """

    kind: FindingKind
    key: EntityKey
    here: str | None = None
    label: str = ""
    differences: Sequence[FieldDifference] = ()
    observation: Observation | None = None
    version: int | None = None
    digest: str | None = None
    wrote_last: FieldOwner | None = None
    wrote_at: int | None = None
    repair_target: RepairTarget | None = "here"
    note: str | None = None


class Comparison:
    """Differences between all entities of Clerk in a span of time and all mirror rows of the same span.

    The mirror rows may come in parts, in any order; `rest` returns what no part contained.
    """

    def __init__(self, theirs: Iterable[Observation], policy: FieldOwnership, *, kind: EntityKind) -> None:
        self._left: dict[str, Observation] = {it.key.id: it for it in theirs}
        self._policy = policy
        self._kind = kind

    def take(self, ours: Iterable[MirroredEntity]) -> Iterator[Finding]:
        """Compare a part of the mirror rows."""
        for our in ours:
            their = self._left.pop(our.clerk_id, None)
            if their is None:
                if not our.is_deleted and not our.is_kept:
                    yield make_missing_in_clerk_finding(our, self._kind)
            elif finding := find_differences(their, our, self._policy):
                yield finding

    def rest(self) -> list[Finding]:
        """Return findings for what only Clerk has."""
        return [make_missing_here_finding(their) for their in self._left.values()]


def make_missing_here_finding(their: Observation) -> Finding:
    """Make the finding of an entity that only Clerk has."""
    return Finding(
        kind=_choose_missing_here_kind(their.key.kind),
        key=their.key,
        label=make_label(their),
        observation=their,
        wrote_last="clerk",
        wrote_at=their.version,
    )


def _choose_missing_here_kind(kind: EntityKind) -> FindingKind:
    return "membership_only_in_clerk" if kind == "membership" else "missing_here"


def make_missing_in_clerk_finding(our: MirroredEntity, kind: EntityKind) -> Finding:
    """Make the finding of an active row that only the mirror has."""
    what: FindingKind = "membership_only_here" if kind == "membership" else "missing_in_clerk"
    return Finding(
        kind=what,
        key=make_key(kind, our.clerk_id),
        here=our.id,
        version=our.version,
        digest=our.digest,
        wrote_last="database",
        wrote_at=our.changed_at,
    )


def find_differences(their: Observation, our: MirroredEntity, policy: FieldOwnership) -> Finding | None:
    """Return the differences of an entity that both sides have; None where there are none."""
    kind = their.key.kind
    if our.is_deleted and our.absent_at is None:
        return _make_finding(their, our, "dead_here", [], repair_target=None, note=DELETED_HERE_NOTE)
    if our.is_deleted:
        return _make_finding(
            their, our, _choose_missing_here_kind(kind), [], repair_target="here", note=REAPPEARED_NOTE
        )
    content = get_content(their)
    if content[:-1] == our.content[:-1] and is_equal_value(content[-1], our.content[-1]):
        differences = []
    else:
        pairs = zip(CONTENT_FIELDS[kind], content, our.content, strict=True)
        differences = [
            FieldDifference(name, _decode_raw(there), _decode_stored(name, here), policy.owner(name))
            for name, there, here in pairs
            if (name not in their.absent or name in OPTIONAL_FIELDS) and not is_equal_value(there, here)
        ]
    if our.is_deactivated and policy.owner("deactivation") == "clerk":
        differences.append(FieldDifference("deactivated", False, True, "clerk"))
    if not differences:
        return None
    names = {it.field for it in differences}
    what: FindingKind = "field_differs"
    if kind == "membership" and "role" in names:
        what = "role_differs"
    elif names <= {"is_banned", "is_deprovisioned", "deactivated"}:
        what = "status_differs"
    repair_target, note = _choose_repair_target(differences)
    return _make_finding(their, our, what, differences, repair_target=repair_target, note=note)


def compare_contents(their: Observation, our: MirroredEntity, policy: FieldOwnership) -> Finding | None:
    """Return the differences of the contents regardless of the versions; None where there are none.

    A version of ours that is newer than Clerk's does not make ours right (G3): the finding says so.
    """
    finding = find_differences(their, our, policy)
    if finding is None or our.version <= their.version or finding.kind == "dead_here":
        return finding
    return msgspec.structs.replace(
        finding, kind=VERSION_AHEAD, note=VERSION_AHEAD_NOTE if finding.repair_target else finding.note
    )


def get_content(their: Observation) -> tuple[Any, ...]:
    """Return the compared values in the order of CONTENT_FIELDS. The user of a membership never changes."""
    entity = their.entity
    return (entity.role,) if isinstance(entity, ClerkMembership) else entity.content()


def is_equal_value(there: Any, here: Any) -> bool:
    """Return whether two values are equal; JSON is compared by content, not by text."""
    if not isinstance(there, msgspec.Raw):
        return bool(there == here)
    written = bytes(there)
    return written.decode() == here or bool(msgspec.json.decode(written) == msgspec.json.decode(here or "null"))


def make_label(their: Observation) -> str:
    """Return the label of an entity that only Clerk has."""
    entity = their.entity
    if isinstance(entity, ClerkMembership):
        return f"{entity.user} in {entity.organization}"
    if isinstance(entity, ClerkUser):
        return str(entity.email or entity.username or entity.clerk_id)
    return entity.name


def compute_deletion_limit(living: int, allowed: int | None = None) -> int:
    """Return the number of deletions allowed: the greater of 10 rows and 1 %, or the explicit allowance."""
    return max(MIN_DELETION_LIMIT, living * DELETION_LIMIT_PERCENT // 100) if allowed is None else allowed


def find_kind_over_limit(
    gone: Mapping[EntityKind, int], living: Mapping[EntityKind, int], allowed: int | None
) -> EntityKind | None:
    """Return the first kind with more deletions than the limit allows."""
    return next(
        (kind for kind, count in gone.items() if count > compute_deletion_limit(living.get(kind, 0), allowed)), None
    )


def _make_finding(
    their: Observation,
    our: MirroredEntity,
    kind: FindingKind,
    differences: Sequence[FieldDifference],
    *,
    repair_target: RepairTarget | None,
    note: str | None,
) -> Finding:
    is_theirs = their.version > our.version
    return Finding(
        kind=kind,
        key=their.key,
        here=our.id,
        label=make_label(their),
        differences=differences,
        observation=their,
        version=our.version,
        digest=our.digest,
        wrote_last="clerk" if is_theirs else "database",
        wrote_at=their.version if is_theirs else our.changed_at,
        repair_target=repair_target,
        note=note,
    )


def _choose_repair_target(differences: Sequence[FieldDifference]) -> tuple[RepairTarget | None, str | None]:
    """Return the side on which a row is fixed. One with fields of the database is written to Clerk, then read back."""
    if any(it.field == "deactivated" for it in differences):
        return None, "Deactivated here. Reactivate the person to restore access."
    ours = {it.field for it in differences if it.owner == "database"}
    if not ours:
        return "here", None
    if ours <= WRITABLE_FIELDS:
        return "clerk", None
    unwritable = ", ".join(sorted(ours - WRITABLE_FIELDS))
    return None, f"The database is the source of truth, but these fields can't be written to Clerk: {unwritable}."


def _decode_stored(name: str, here: Any) -> Any:
    return msgspec.json.decode(here) if name == "public_metadata" and here else here


def _decode_raw(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def make_key(kind: EntityKind, clerk_id: str) -> EntityKey:
    """Build the key of an entity."""
    return msgspec.convert({"kind": kind, "id": clerk_id}, EntityKey)
