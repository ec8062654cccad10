"""The Frontend API section of SUPPORTED.md."""

from clerk_emulator.frontend_api.operations import OPERATIONS
from clerk_emulator.frontend_api.supported_operations import PARTIAL_SUPPORT, list_supported, render_section
from tests.clerk_emulator.specification import load


def test_every_frontend_operation_is_listed_once() -> None:
    for operation in OPERATIONS:
        assert render_section().count(f"| `{operation.id}` | {operation.method} `{operation.path}` |") == 1
    assert not list_supported() - {operation.id for operation in OPERATIONS}
    assert not set(PARTIAL_SUPPORT) - list_supported()


def test_the_operations_are_those_of_the_specification() -> None:
    document = load("fapi-2026-05-12.yml")
    methods = ("get", "post", "put", "patch", "delete")
    specified = {
        (method.upper(), path, item[method]["operationId"])
        for path, item in document["paths"].items()
        for method in methods
        if method in item
    }
    assert {(one.method, one.path, one.id) for one in OPERATIONS} == specified
