"""The API does what its OpenAPI document says: no failure of ours, and every answer of a kind that is described."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from tests.support.town import SEED
from tests.support.world import KEY, make_firm

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 12


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Any]:
    """The schema of a firm's API; its worker does not run, Clerk is the emulator."""
    path = tmp_path_factory.mktemp("api") / "instep.db"
    path.write_bytes(sqlite_template.read_bytes())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    firm = make_firm(f"sqlite:///{path}", INSTEP_WORKER="false")
    with TestClient(firm.app, base_url="http://127.0.0.1:8000") as client:
        assert client.portal is not None
        firm.emulator.seed(SEED)
        client.portal.call(firm.settle)
        yield schemathesis.openapi.from_asgi("/openapi.json", firm.app)
        client.portal.call(firm.close)
    structlog.reset_defaults()


def test_every_answer_is_one_that_was_described(api: Any) -> None:
    """Any request that the document allows, by the holder of the key, in Northwind as often as anywhere."""
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > 20
    faults = [fault for operation in operations if (fault := fault_of(operation))]

    assert not faults, "\n\n".join(faults)


def fault_of(operation: Any) -> str:
    """What is wrong with one operation, with the request that shows it and the way to repeat it."""

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(), is_northwind=st.booleans())
    def holds(case: Any, is_northwind: bool) -> None:
        if is_northwind and "/organizations/{id}" in case.path:
            case.path_parameters["id"] = "northwind"
        case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, checks=CHECKS)

    try:
        holds()
    except (Exception, BaseExceptionGroup) as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        return f"{operation.label}: {error}\n{notes}"
    return ""
