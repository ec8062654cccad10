"""The judge: what Clerk itself remembers, against the mirror, the journal and the audit. Nothing of instep's reading
of Clerk takes part."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.audit.tables import audit
from instep.core.clock import now
from instep.core.db import Conn
from instep.operations.tables import operations
from tests.proof.fleet import Fleet
from tests.proof.life import MEMBER, Wish
from tests.support.compare import clerk_side, counted, graves, mirror_side, transitions

ALL = 1_000_000


@dataclass(frozen=True)
class Verdict:
    """Faults by what they are, and figures of what was looked at."""

    faults: list[str]
    figures: dict[str, int]


async def judge(fleet: Fleet, wishes: list[Wish]) -> Verdict:
    """Hold everything against Clerk's memory. Ask when nothing goes on any more."""
    state = await fleet.desk("GET", f"/state?limit={ALL}")
    events = (await fleet.desk("GET", f"/events?limit={ALL}"))["data"]
    effects = Counter(effects_of(events))
    faults = [
        *_sides(fleet, state),
        *_graves(fleet, events),
        *_effects(wishes, effects),
        *_roles(wishes, events),
        *fleet.db.read_sync(_journal),
        *_audit(fleet, events),
    ]
    figures = {
        "told by Clerk": len(events),
        "asked by admins": len(wishes),
        "of these refused": sum(it.outcome == "refused" for it in wishes),
        "in the mirror": sum(len(part) for part in mirror_side(fleet.db).values()),
        "operations": fleet.db.read_sync(
            lambda conn: conn.execute(sa.select(sa.func.count(operations.c.id))).scalar_one()
        ),
    }
    return Verdict(faults, figures)


def effects_of(events: Iterable[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    """Everything that happened in Clerk and that a wish can be about, once for each time."""
    names: dict[str, str | None] = {}
    emails: dict[str, str] = {}
    for it in events:
        type_, data = it["type"], it["data"]
        if type_ in ("user.created", "user.updated"):
            if names.get(data["id"]) != data["first_name"]:
                yield ("name", data["id"], data["first_name"])
            names[data["id"]] = data["first_name"]
        if type_ == "user.created":
            emails[data["id"]] = data["email_addresses"][0]["email_address"]
            yield ("made", emails[data["id"]])
        elif type_ == "user.deleted":
            yield ("deleted", emails[data["id"]])
        elif type_ == "organizationInvitation.created":
            yield ("invited", data["email_address"])
        elif type_ == "organizationInvitation.revoked":
            yield ("revoked", data["id"])


def _sides(fleet: Fleet, state: dict[str, Any]) -> Iterable[str]:
    clerk, mirror = clerk_side(state), mirror_side(fleet.db)
    for kind in clerk:
        for id in clerk[kind].keys() - mirror[kind].keys():
            yield f"lost: {kind} {id} is in Clerk and not here"
        for id in mirror[kind].keys() - clerk[kind].keys():
            yield f"risen: {kind} {id} is here and not in Clerk"
        for id in clerk[kind].keys() & mirror[kind].keys():
            if clerk[kind][id] != mirror[kind][id]:
                yield f"stale: {kind} {id} is {mirror[kind][id]} here and {clerk[kind][id]} in Clerk"
    if not counted(fleet.db):
        yield "the counts of members are not those of the rows"


def _graves(fleet: Fleet, events: Iterable[dict[str, Any]]) -> Iterable[str]:
    buried = graves(fleet.db)["users"]
    ended = {it["data"]["id"] for it in events if it["type"] == "user.deleted"}
    yield from (f"lost: the deletion of {id}" for id in ended - buried)


def _effects(wishes: list[Wish], effects: Counter[tuple[str, ...]]) -> Iterable[str]:
    """Each wish that was done is there once; each that was refused is not there at all."""
    wanted: Counter[tuple[str, ...]] = Counter()
    for wish in wishes:
        if wish.outcome not in ("done", "refused"):
            yield f"unended: {wish}"
        if wish.effect and wish.effect[0] != "role":
            wanted[wish.effect] += wish.outcome == "done"
    for effect, times in wanted.items():
        if effects[effect] != times:
            yield f"{'doubled' if effects[effect] > times else 'lost'}: {effect} {effects[effect]} times, not {times}"


def _roles(wishes: list[Wish], events: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The roles of those whom only admins change went as they were wished, one after the other."""
    wished: dict[str, list[str]] = {}
    for it in wishes:
        if it.effect[:1] == ("role",) and it.outcome == "done":
            wished.setdefault(it.effect[1], []).append(it.effect[2])
    went: dict[str, list[str]] = {}
    for event in events:
        if event["type"].startswith("organizationMembership."):
            went.setdefault(event["data"]["public_user_data"]["user_id"], [MEMBER]).append(event["data"]["role"])
    for user, roles in wished.items():
        real = [role for before, role in zip(went[user], went[user][1:], strict=False) if role != before]
        if real != roles:
            yield f"doubled or lost: the role of {user} went {real} and was wished {roles}"


def _journal(conn: Conn) -> Iterable[str]:
    """Every operation has ended, and the audit has its beginning and its end, once each."""
    faults = []
    said: dict[str, list[str]] = {}
    for cause, outcome in conn.execute(sa.select(audit.c.cause, audit.c.outcome).order_by(audit.c.id)):
        said.setdefault(cause, []).append(outcome)
    ends = {"settled": "done", "refused": "refused"}
    for id, kind, state, reason in conn.execute(
        sa.select(operations.c.id, operations.c.kind, operations.c.state, operations.c.reason)
    ):
        if state not in ends:
            faults.append(f"unended: {kind} {id} is {state}: {reason}")
        elif said.get(id) != ["asked", ends[state]]:
            faults.append(f"audit: {kind} {id} is {state}, and its entries are {said.get(id)}")
    unclosed = list_entries(conn, AuditFilter(is_unclosed=True, until=now()))
    return [*faults, *(f"audit: {it.action} of {it.target} was never closed" for it in unclosed)]


def _audit(fleet: Fleet, events: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Whoever came or went is in the audit once, by the delivery or by the operation that made them."""
    happened = Counter(transitions(fleet.db))
    for (action, target), times in happened.items():
        if action.endswith((".seen", ".gone")) and times > 1:
            yield f"doubled: {action} of {target} {times} times in the audit"
    for event in events:
        id = event["data"]["id"]
        is_own = json.dumps(event["data"]).find('"own') >= 0
        if event["type"] == "user.created" and is_own and not happened[("user.seen", id)]:
            yield f"audit: {id} came, and no entry says so"
