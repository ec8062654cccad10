"""The limit of deletions: how many rows an apply may mark as deleted here before a person has allowed it."""

from collections.abc import Sequence

from instep.identity.model import Kind
from instep.identity.whole import KINDS
from instep.kit.db import Conn
from instep.mirror import snapshot
from instep.sync import plan, store

FUSE = "{count} {things} would be deleted here, more than {most}. If that is right: --allow-gone {count}"


def find_excess(conn: Conn, plan_id: str, *, chosen: Sequence[int] | None, allowed: int | None) -> str | None:
    """Return why a plan, or the chosen rows of it, would delete too much; None where it would not.

    `allowed` is how many deletions of each kind a person allowed; None: the greater of 10 and 1 % of what lives.
    """
    gone = store.count_gone(conn, plan_id, chosen)
    suspected: list[Kind] = [kind for kind in KINDS if gone.get(kind, 0) > plan.fuse(0, allowed)]
    living = {kind: snapshot.count_ours(conn, kind) for kind in suspected}
    over = plan.is_over({kind: gone[kind] for kind in suspected}, living, allowed)
    if over is None:
        return None
    return FUSE.format(count=gone[over], things=f"{over}s", most=plan.fuse(living[over], allowed))
