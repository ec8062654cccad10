"""The API on a page: everything that the document says is there, and every name leads somewhere."""

import re
from urllib.parse import unquote

import pytest

from instep.app.openapi import build_reference
from tests.support.town import Town

pytestmark = pytest.mark.anyio


async def page(town: Town) -> str:
    response = await town.firm.api(None).get("/docs")
    assert response.status_code == 200
    return str(response.text)


async def test_every_operation_of_the_document_is_on_the_page(town: Town) -> None:
    text, document = await page(town), (await town.firm.api(None).get("/openapi.json")).json()
    ids = [it["operationId"] for path in document["paths"].values() for it in path.values()]
    assert len(ids) > 40
    for id in ids:
        assert f'<div id="{id}">' in text


async def test_every_link_of_the_reference_has_a_target(town: Town) -> None:
    text = await page(town)
    ids = set(re.findall(r' id="([^"]+)"', text))
    links = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert len([it for it in links if it.startswith("#shape-")]) > 40
    for link in links:
        assert unquote(link[1:]) in ids if link[0] == "#" else link.startswith("/"), link


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer | null"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Member"}}, "Member[]"),
        ({"enum": ["asc", "desc"]}, '"asc" | "desc"'),
        ({"const": "member"}, '"member"'),
        ({"$ref": "#/components/schemas/instep__people__shapes__Invitation"}, "Invitation (people)"),
        ({"type": "integer", "minimum": 1, "maximum": 500, "default": 25}, "integer 1 to 500, 25 by default"),
        ({}, ""),
    ],
)
def test_a_schema_is_formatted_as_a_short_type(schema: dict[str, object], words: str) -> None:
    operation = {"operationId": "find", "responses": {}, "parameters": [{"name": "x", "in": "query", "schema": schema}]}
    document = {"info": {"version": "1"}, "paths": {"/x": {"get": operation}}, "components": {"schemas": {}}}
    (doing,) = build_reference(document).groups["other"]
    assert [it.type for it in doing.fields] == [words]
