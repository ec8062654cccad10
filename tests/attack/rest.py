"""Every documented operation with hostile values in its path, query, headers and body."""

import random
import urllib.parse
from collections.abc import Iterator
from typing import Any

import httpx2

from tests.attack.target import BREAK_GLASS, Report, Target
from tests.support.hostile import Seeded, Token, make_value, write

TRIES = 30  # of each operation
ENCODED = ("%00", "%ff", "%ED%A0%80", "%0d%0a", "\U0001f600")
IDS = ("northwind", "x_1", "..%2f..", "a" * 5_000, "1%27OR%271%27=%271", *ENCODED)
QUERIES = ("-1", "0", "501", "9" * 400, "1e9", "", "a" * 20_000, "%22", *ENCODED)


async def run(target: Target) -> Report:
    """Send them as the holder of the break-glass key. Any answer is right but one of 500 and above."""
    report = Report("REST values")
    document = (await target.call("GET", "/openapi.json")).json()
    dice = random.Random(13)  # noqa: S311 (nothing secret is made of it)
    choice = Seeded(13)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for request in _requests(target, dice, choice, document, (method.upper(), path), operation):
                await _send(target, report, request)
    return report


def _requests(
    target: Target, dice: random.Random, choice: Seeded, document: Any, route: tuple[str, str], operation: Any
) -> Iterator[httpx2.Request]:
    """Yield the requests of one operation."""
    method, path = route
    queries = [it["name"] for it in operation.get("parameters", ()) if it["in"] == "query"]
    schema = _schema(document, operation)
    for _ in range(TRIES):
        place = path
        for name in (it for it in path.split("/") if it.startswith("{")):
            place = place.replace(name, dice.choice(IDS))
        query = "&".join(f"{name}={dice.choice(QUERIES)}" for name in queries if dice.random() < 0.4)
        headers = dict(BREAK_GLASS)
        if method != "GET":
            headers["idempotency-key"] = dice.choice(("a", "a" * 5_000, "%00", " "))
        content = b"" if schema is None else _body(dice, choice, schema).encode()
        if schema is not None:
            headers["content-type"] = "application/json"
        url = f"{target.url}{urllib.parse.quote(place, safe='/%')}?{urllib.parse.quote(query, safe='=&%')}"
        yield target.http.build_request(method, url, headers=headers, content=content)


def _schema(document: Any, operation: Any) -> Any:
    """Return the properties of an operation's JSON body, None where it takes none."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    schema = content["schema"]
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema.get("properties", {})


def _body(dice: random.Random, choice: Seeded, properties: Any) -> str:
    """Write a body: hostile values in some fields, plausible ones in the others, now and then no object at all."""
    if dice.random() < 0.1:
        return write(make_value(choice))
    plausible = {"email": "new@example.com", "role": "org:member", "text": "a@example.com", "name": "x"}
    fields = {name: plausible.get(name, "x") for name in properties if dice.random() < 0.8}
    for name in properties:
        if dice.random() < 0.4:
            fields[name] = make_value(choice)
    if dice.random() < 0.05:
        return str(Token("[" * 100_000))
    return write(fields)


async def _send(target: Target, report: Report, request: httpx2.Request) -> None:
    what = f"{request.method} {request.url.path[:80]}?{request.url.query[:80]!r} {request.content[:120]!r}"
    try:
        answer = await target.http.send(request)
    except httpx2.HTTPError as error:
        report.expect(False, f"{what}: {error!r}")
        return
    report.count("requests")
    report.judge(answer, what)
