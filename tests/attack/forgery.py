"""Requests that another site makes a browser send with somebody's cookie."""

from itertools import product

from tests.attack.target import Report, Target

PATHS = (
    ("POST", "/v1/organizations/northwind/leave"),
    ("POST", "/v1/organizations/northwind/invitations"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/organizations/northwind/members/{member}"),
    ("POST", "/organizations/northwind/invitations"),
    ("POST", "/users/{member}/delete"),
    ("POST", "/keys"),
    ("POST", "/sign-out"),
)
FOREIGN = "https://evil.example.com"
AUTHORIZATIONS = (None, "Basic eA==", "Basic x", "Negotiate x", "Digest x", "bearer", "Bearer", "x", "")
SITES = (None, "cross-site", "same-site", "none", "x")
TYPES = ("application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x")


async def run(target: Target) -> Report:
    """Send every combination; none may change anything, and none may be answered as if it had."""
    report = Report("cross-site requests")
    cookie = await target.cookie_of_break_glass()
    before = await target.state()
    member = target.users["member"]
    for (method, path), authorization, site, origin, type_ in product(
        PATHS, AUTHORIZATIONS, SITES, _origins(target), TYPES
    ):
        if origin is None and site is None and authorization is None:
            continue  # nothing tells that it comes from a browser: covered by the tests of the origin rule
        given = {"cookie": cookie, "content-type": type_}
        optional = {"authorization": authorization, "sec-fetch-site": site, "origin": origin}
        headers = given | {name: value for name, value in optional.items() if value is not None}
        place = path.replace("{member}", member)
        answer = await target.call(method, place, headers=headers, content=b"{}", follow_redirects=False)
        report.judge(answer, f"{method} {path} {optional}")
        report.count("requests")
        is_refused = answer.status_code in (400, 401, 403, 415, 422, 429)
        report.expect(is_refused, f"{method} {path} {optional} {type_}: {answer.status_code}")
    answer = await target.call("GET", "/v1/users", headers={"cookie": cookie})
    report.expect(answer.status_code == 200, "the session was ended by one of them")
    report.expect(await target.state() == before, "Clerk's state has changed")
    return report


def _origins(target: Target) -> tuple[str | None, ...]:
    host = target.url.removeprefix("http://")
    return (None, FOREIGN, "null", f"http://{host}.evil.example.com", f"https://{host}", target.url + "0")
