"""Anonymous bodies that are large or slow, and connections that never finish a request."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx2

from tests.attack.target import Report, Target
from tests.support.flood import flood

MIB = 1024 * 1024
LARGE = 64  # MiB that are offered in one request
GROWTH_MIB = 64  # of the server's memory at the most, whatever is offered
ROUTES = (("POST", "/v1/users"), ("POST", "/webhooks/clerk"), ("POST", "/sign-in/key"), ("PATCH", "/v1/users/x_1"))
HALF_OPEN, SLOW_BODIES, SECONDS = 1_500, 200, 60.0
ANSWER_WITHIN, CLOSED_WITHIN = 1.0, 15.0


async def run(target: Target) -> Report:
    """Offer large bodies, then hold 1,500 half-open and 200 slow connections for a minute."""
    report = Report("bodies and connections")
    before = target.serve.memory()
    for method, route in ROUTES:
        for is_chunked in (False, True):
            await _offer(target, report, method, route, is_chunked=is_chunked)
    grown = target.serve.memory() - before
    report.counts["grown_mib"] = round(grown)
    report.expect(grown < GROWTH_MIB, f"the server's memory has grown by {grown:.0f} MiB")
    port = urlsplit(target.url).port
    assert port is not None
    seen = await flood(port, half_open=HALF_OPEN, slow_bodies=SLOW_BODIES, seconds=SECONDS)
    report.count("connections", len(seen.lives))
    report.counts["slowest_ms"] = round(max(seen.answers, default=0.0) * 1_000)
    report.counts["longest_s"] = round(max(seen.lives, default=0.0))
    report.expect(not seen.failures, f"/health/live failed: {seen.failures[:3]}")
    report.expect(max(seen.answers, default=9.9) <= ANSWER_WITHIN, str(seen))
    report.expect(max(seen.lives, default=99.9) <= CLOSED_WITHIN, str(seen))
    return report


async def _offer(target: Target, report: Report, method: str, route: str, *, is_chunked: bool) -> None:
    """Offer a large body without credentials: refused, by an answer or by an end of the connection."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(LARGE):
            yield b"a" * MIB
            await asyncio.sleep(0)

    headers = {"content-type": "application/json"}
    if not is_chunked:
        headers["content-length"] = str(LARGE * MIB)
    what = f"{method} {route} with {LARGE} MiB{' in chunks' if is_chunked else ''}"
    report.count("large bodies")
    try:
        answer = await target.call(method, route, content=pieces(), headers=headers)
    except httpx2.HTTPError:
        report.count("cut off")
        return
    report.judge(answer, what)
    report.expect(answer.status_code in (401, 403, 413), f"{what}: {answer.status_code}")
