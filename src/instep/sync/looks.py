"""What a scan reads of the database: rows of a stretch of time, rows by their ids, and what they are called."""

from collections.abc import Sequence

from instep.identity.addresses import canonical
from instep.identity.events import Seen
from instep.identity.model import ClerkId, Key, Kind, Membership, User
from instep.identity.rules import AskAgain
from instep.identity.whole import KINDS, Ours
from instep.kit.db import Conn
from instep.mirror import snapshot
from instep.mirror.store import find_unlinked
from instep.sync import lone, store
from instep.sync.plan import Finding, key_of

BATCH = 500


def asks_of(conn: Conn, found: Sequence[Finding]) -> list[AskAgain]:
    """How to look for these in Clerk: a membership only by its organization and its user."""
    ids = [it.key.id for it in found if it.key.kind == "membership"]
    pairs = snapshot.find_pairs(conn, ids) if ids else {}
    asks: list[AskAgain] = []
    for it in found:
        organization, user = pairs.get(it.key.id, (None, None))
        entity = None
        if organization and user:
            entity = Membership(clerk_id=it.key.id, organization=ClerkId(organization), user=ClerkId(user), role="")
        asks.append(AskAgain(it.key, entity))
    return asks


def list_ours(
    conn: Conn, kind: Kind, since: int, until: int | None, after: str
) -> tuple[list[Ours], tuple[int, str] | None]:
    """See snapshot.list_ours."""
    return snapshot.list_ours(conn, kind, since=since, until=until, after=after)


def find_here(conn: Conn, kind: Kind, theirs: Sequence[Seen]) -> tuple[list[Ours], dict[str, str]]:
    """The rows of these as they stand now, and our unlinked people of the same addresses."""
    ours = snapshot.find_ours(conn, kind, [it.key.id for it in theirs]) if theirs else []
    known = {it.clerk_id for it in ours}
    people = [it.entity for it in theirs if isinstance(it.entity, User) and it.key.id not in known]
    return ours, find_unlinked(conn, [it.email for it in people if it.email and it.is_email_verified])


def find_rows(conn: Conn, rows: Sequence[store.Row]) -> dict[Key, Ours]:
    """Return the mirror's rows of these findings as they stand now, by what they are about."""
    found: dict[Key, Ours] = {}
    for kind in KINDS:
        ids = [it.finding.key.id for it in rows if it.finding.key.kind == kind]
        found |= {key_of(kind, it.clerk_id): it for it in snapshot.find_ours(conn, kind, ids)} if ids else {}
    return found


def maybe_linked(finding: Finding, unlinked: dict[str, str]) -> Finding:
    """Someone whom we know by the address, without a Clerk account: linked, not made anew."""
    person = finding.news.entity if finding.news else None
    if not isinstance(person, User) or not person.is_email_verified or not person.email:
        return finding
    ours = unlinked.get(canonical(person.email))
    return lone.linking(finding, ours) if ours else finding


def list_ours_alone(conn: Conn) -> list[Finding]:
    """What only the database can tell: addresses twice, people that were never linked, rows that say "invited"."""
    twice = [
        lone.twice(email, [(it.id, it.label) for it in who]) for email, who in snapshot.list_same_address(conn, BATCH)
    ]
    unlinked = [lone.unlinked(id, email, clerk_id) for id, email, clerk_id in snapshot.list_unlinked(conn, BATCH)]
    invited = [lone.invited(it.id, it.label) for it in snapshot.list_invited(conn, BATCH)]
    return [*twice, *unlinked, *invited]


def labels(conn: Conn, rows: Sequence[store.Row]) -> dict[int, str]:
    """What to call rows that only the mirror knows, by their numbers."""
    named: dict[int, str] = {}
    for kind in KINDS:
        of_kind = {row.finding.here: row.number for row in rows if row.finding.key.kind == kind and row.finding.here}
        labels = snapshot.find_labels(conn, kind, list(of_kind)) if of_kind else {}
        named |= {of_kind[id]: text for id, text in labels.items()}
    return named
