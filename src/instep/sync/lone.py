"""Findings that no comparison gives: people to be linked, addresses that two have, old invitations, unreadable rows."""

from collections.abc import Sequence

import msgspec

from instep.identity.model import Kind
from instep.sync.model import Total
from instep.sync.plan import Finding
from instep.sync.plan import key_of as _key


def linking(finding: Finding, ours: str) -> Finding:
    """Someone whom only Clerk knows by id, and whom we know by the address: taking them in links the two."""
    note = "The same verified address, without a Clerk account here: linked when applied."
    return msgspec.structs.replace(finding, kind="not_linked", here=ours, note=note)


def unlinked(here: str, email: str, clerk_id: str) -> Finding:
    """A person without a Clerk account whose verified address another row has, which has one."""
    note = f"Another person here has this address and Clerk's {clerk_id}. Someone has to say which row stays."
    return Finding(kind="not_linked", key=_key("user", clerk_id), here=here, label=email, mend=None, note=note)


def twice(email: str, who: Sequence[tuple[str, str]]) -> Finding:
    """One address, several living people: in Clerk an address belongs to one."""
    note = "The same address: " + ", ".join(f"{id} ({clerk_id})" for id, clerk_id in who)
    key = _key("user", who[0][1])
    return Finding(kind="duplicate_email", key=key, here=who[0][0], label=email, mend=None, note=note)


def invited(here: str, label: str) -> Finding:
    """A member's row that says "invited": pending invitations live in Clerk alone."""
    note = "Pending invitations live in Clerk; this row is marked as removed when applied."
    return Finding(kind="legacy_invited", key=_key("membership", here), here=here, label=label, note=note)


def not_whole(kind: Kind, total: Total) -> Finding:
    """Return the finding that Clerk's list of a kind was shorter than Clerk's count."""
    note = f"Clerk listed {total.fetched} of {total.after}: whatever else differs can't be seen. Check again later."
    return Finding(kind="not_whole", key=_key(kind, ""), label=f"{kind}s", mend=None, note=note)


def unreadable(kind: Kind, text: str) -> Finding:
    """A row of Clerk's that can't be read."""
    id = text.partition(":")[0]
    return Finding(kind="unreadable", key=_key(kind, id), label=id, mend=None, note=text)
