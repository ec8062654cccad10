"""The authorization matrix over HTTP: every route of the table with everybody who may come, by a bearer token."""

import json
import re

import httpx2

from tests.attack.target import Report, Target
from tests.stories.test_doors import BODIES, KINDS, LASTING, ROWS, fits
from tests.support.town import WHO

UNLIKE_THE_TABLE = ("/sign-in/key",)  # guessing is limited, and the limit would reach everyone after it


async def run(target: Target) -> Report:
    """Send each route to each principal, with ids of things that are not there where it would change something."""
    report = Report("authorization matrix")
    for route, kind in ROWS.items():
        method, path = route.split(" ")
        if path.endswith(("/leave", "/sign-out", "/live")) or path in UNLIKE_THE_TABLE:
            continue
        for who, expected in zip(WHO, KINDS[kind].split(), strict=True):
            place = _address(path, target)
            headers = {"content-type": "application/json", "sec-fetch-site": "same-origin", "origin": target.url}
            headers |= {"sec-fetch-dest": "document", "sec-fetch-mode": "navigate"} | await target.bearer_of(who)
            body = json.dumps(BODIES.get(route, {})).encode() if method in LASTING else b""
            answer = await target.call(method, place, headers=headers, content=body, follow_redirects=False)
            report.judge(answer, f"{route} by {who}")
            report.count("requests")
            report.expect(_fits(expected, answer), f"{route}: {who} gets {answer.status_code}, not {expected}")
    return report


def _fits(expected: str, answer: httpx2.Response) -> bool:
    """Compare as the tests of the table do; the one who is let in finds nothing, since nothing is there."""
    if expected == "403" and answer.status_code == 404:
        return True  # the thing does not exist: whether the role is looked at first is no secret
    return fits(expected, answer.status_code, dict(answer.headers), may_miss=True)


def _address(path: str, target: Target) -> str:
    return re.sub(r"{(\w+)}", lambda found: "northwind" if found[1] == "organization_id" else "x_1", path)
