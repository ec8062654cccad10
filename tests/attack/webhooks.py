"""Signed webhooks whose fields hold what no sender should send; then everything is read back."""

import asyncio
import copy
import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

from tests.attack.target import BREAK_GLASS, Report, Target
from tests.proof.fleet import until
from tests.support.hostile import Seeded, make_event, make_value, write
from tests.support.need import CLERK_FILES
from tests.support.svix import signed

VARIANTS = 4_000
SIDE_BY_SIDE = 16
DRAINED_WITHIN = 120.0  # seconds
PAGES = (
    "/v1/users?limit=500",
    "/v1/organizations/{organization}/people?limit=500",
    "/v1/audit?limit=200",
    "/v1/deliveries?limit=500",
    "/v1/operations",
    "/users",
    "/organizations/{organization}/members",
    "/organizations/{organization}/audit",
    "/audit",
    "/deliveries",
)
EXPORTS = ("/v1/organizations/{organization}/people/export", "/v1/audit/export")
DELIVERED = (200, 202, 400, 401, 413)  # 413: over 1 MiB, which a few of the values are


async def run(target: Target) -> Report:
    """Send the variants, wait until all are processed, and read every list, page and export."""
    report = Report("signed webhooks")
    bodies = iter(list(variants(await _instance(target))))
    await asyncio.gather(*(_send(target, report, bodies) for _ in range(SIDE_BY_SIDE)))
    await until(target.is_drained, "the deliveries are processed", within=DRAINED_WITHIN)
    await _read_back(target, report)
    return report


def variants(instance: str | None) -> Iterator[tuple[str, bytes]]:
    """Yield a description and a body for each variant: Clerk's examples, where they are here, then made-up events."""
    examples = list(_of_examples(instance))
    yield from examples[: VARIANTS // 2]
    choice = Seeded(7)
    for n in range(VARIANTS - min(len(examples), VARIANTS // 2)):
        made = make_event(choice, f"v{n % 900}", instance=instance)
        yield f"{made.type} {made.bent}", made.body


def _of_examples(instance: str | None) -> Iterator[tuple[str, bytes]]:
    """Yield each example of the catalogue with each of its fields bent in turn, in a few ways."""
    path = CLERK_FILES / "webhook-examples.json"
    if not path.exists():
        return
    choice = Seeded(11)
    examples = {name: it for name, it in json.loads(path.read_text()).items() if isinstance(it, dict)}
    for _ in range(4):
        for name, example in examples.items():
            for place in _places(example):
                bent = copy.deepcopy(example) | {"instance_id": instance}
                value = make_value(choice)
                _put(bent, place, value)
                yield f"example {name} {'.'.join(map(str, place))}", write(bent).encode()


def _places(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*above, key)
        yield from _places(inner, (*above, key))


def _put(value: Any, place: tuple[str | int, ...], bent: Any) -> None:
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = bent


async def _send(target: Target, report: Report, bodies: Iterator[tuple[str, bytes]]) -> None:
    for what, body in bodies:
        headers = {"content-type": "application/json", **signed(body, at=int(time.time() * 1_000))}
        answer = await target.call("POST", "/webhooks/clerk", content=body, headers=headers)
        report.count("variants")
        report.judge(answer, what)
        report.expect(answer.status_code in DELIVERED, f"{what}: {answer.status_code} {answer.text[:120]}")


async def _read_back(target: Target, report: Report) -> None:
    organizations = ["northwind", "org_home"]
    paths = {path.format(organization=it) for path in (*PAGES, *EXPORTS) for it in organizations}
    for path in sorted(paths):
        answer = await target.call("GET", path, headers=BREAK_GLASS | {"sec-fetch-dest": "document"})
        report.judge(answer, path)
        report.count("reads")
        report.expect(answer.status_code in (200, 404), f"{path}: {answer.status_code}")
        if "export" in path and answer.status_code == 200:
            widths = {len(row) for row in csv.reader(io.StringIO(answer.text))}
            report.expect(len(widths) == 1, f"{path}: rows of {sorted(widths)} fields, so it was cut off")
    for user in (await target.call("GET", "/v1/users?limit=500", headers=BREAK_GLASS)).json()["data"]:
        for path in (f"/v1/users/{user['id']}", f"/users/{user['id']}"):
            answer = await target.call("GET", path, headers=BREAK_GLASS | {"sec-fetch-dest": "document"})
            report.judge(answer, path)
            report.count("reads")
            report.expect(answer.status_code == 200, f"{path}: {answer.status_code}")


async def _instance(target: Target) -> str | None:
    """Return the id of the emulator's instance, which its own deliveries carry."""
    answer = await target.clerk.get(f"{target.clerk_url}/v1/instance")
    return str(answer.json()["id"]) if answer.is_success else None
