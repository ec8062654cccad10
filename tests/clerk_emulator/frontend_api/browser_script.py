"""A browser with Clerk's script: forms, methods in the query, and every response checked against the specification."""

from dataclasses import dataclass
from typing import Any

import httpx2

from clerk_emulator import Emulator
from clerk_emulator.frontend_api.route_table import match_route
from tests.clerk_emulator.clients import Json
from tests.clerk_emulator.specification import (
    divergences,
    error_codes,
    follow,
    load,
    schema_errors,
    specifications_are_here,
)

PATH = "/__clerk/v1"


@dataclass(frozen=True, slots=True)
class BrowserScript:
    """Clerk's script in one browser: each call returns `response`, or status and first error code by `no()`."""

    http: httpx2.AsyncClient

    async def __call__(self, method: str, path: str, **fields: Any) -> Any:
        response = await self.raw(method, path, **fields)
        assert response.status_code == 200, f"{method} {path}: {response.status_code} {response.text}"
        body = response.json()
        return body["response"] if isinstance(body, dict) and "response" in body else body

    async def no(self, method: str, path: str, **fields: Any) -> tuple[int, str]:
        """Return status and code of an error response."""
        response = await self.raw(method, path, **fields)
        assert response.status_code >= 400, f"{method} {path} was not refused: {response.text}"
        return response.status_code, response.json()["errors"][0]["code"]

    async def raw(self, method: str, path: str, **fields: Any) -> httpx2.Response:
        """Return the whole response after checking it against the specification, if available."""
        address, query = f"{PATH}{path}", {"_clerk_js_version": "6.40.0", "__clerk_api_version": "2026-08-20"}
        if method == "GET":
            response = await self.http.get(address, params={**query, **fields})
        else:
            more = {} if method == "POST" else {"_method": method}
            response = await self.http.post(address, params={**query, **more}, data=fields)
        invalid = find_violations(method, path, response)
        assert not invalid, f"{method} {path}: {'; '.join(invalid)}"
        return response

    async def client(self) -> Json:
        """Return the client."""
        found: Json = await self("GET", "/client")
        return found

    async def sign_in(self, address: str, password: str) -> Json:
        """Sign in with a password."""
        found: Json = await self("POST", "/client/sign_ins", identifier=address, password=password)
        assert found["status"] == "complete"
        return found


def code_for(emulator: Emulator, to: str) -> str:
    """Return the last code sent to a recipient."""
    found = [mail.code for mail in emulator.state.mail if mail.to == to]
    assert found[-1]
    return found[-1]


def find_violations(method: str, path: str, response: httpx2.Response) -> list[str]:
    """Return the violations of the specification by a response."""
    if not specifications_are_here() or "emulator_not_implemented" in response.text:
        return []
    found = match_route(method, path)
    assert found is not None, f"{method} {path} is no route"
    document = load("fapi-2026-05-12.yml")
    item = document["paths"]["/v1" + found[0].path][method.lower()]
    if item["operationId"] != found[0].operation:
        return [f"the operation is called {item['operationId']}"]
    declared = item["responses"].get(str(response.status_code))
    if declared is None:
        return [f"status {response.status_code} is not declared"]
    if response.status_code >= 400:
        codes = {error["code"] for error in response.json()["errors"]}
        return [
            f"{code} is not in the catalogue" for code in codes if (response.status_code, code) not in error_codes()
        ]
    content = follow(document, declared).get("content", {}).get("application/json", {})
    invalid = schema_errors(document, content["schema"], response.json()) if content else []
    return [message for message in invalid if not message.endswith(tuple(divergences("frontend_api")))]
