"""The commands about members: what they do, what they print, and how they end."""

import asyncio
import json
from collections.abc import Callable

import httpx2
import pytest
from typer.testing import CliRunner, Result

from instep.app import cli_runtime
from instep.app.cli import app
from instep.app.container import Services, make_services
from instep.clerk.client import ClerkClient
from instep.domain.errors import ChangeRejectedError
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from tests.members.firms import ADA, BOB, DAN, furnish, in_clerk
from tests.support.world import Firm, make_firm

Run = Callable[..., Result]


@pytest.fixture
def firm(sqlite_migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Firm:
    """A firm whose services are made anew for each command, as they are on a command line."""
    firm = make_firm(sqlite_migrated_url)
    asyncio.run(furnish(firm))

    def services(_settings: object) -> Services:
        clerk = ClerkClient(
            firm.emulator.secret_key,
            api_url=firm.emulator.site.url,
            transport=httpx2.ASGITransport(app=firm.emulator),
        )
        return make_services(firm.services.settings, clerk=clerk, clock=firm.clock)

    monkeypatch.setattr(cli_runtime, "make_services", services)
    return firm


@pytest.fixture
def run() -> Run:
    """A command, as it is typed."""
    return lambda *words: CliRunner().invoke(app, words)


def test_each_change_prints_the_status_of_the_member(firm: Firm, run: Run) -> None:
    bob = firm.user_id(BOB)
    assert run("role", "acme", bob, ADMIN_ROLE).output == "Bob Brown: active, org:admin\n"
    assert run("role", "acme", bob, ADMIN_ROLE).output == "Bob Brown: active, org:admin (unchanged)\n"
    assert run("deactivate", "acme", bob).output == "Bob Brown: deactivated, org:admin\n"
    assert run("reactivate", "acme", bob).output == "Bob Brown: active, org:admin\n"
    assert run("remove", "acme", bob).output == "Bob Brown: removed, org:admin\n"
    assert in_clerk(firm, BOB) is None
    assert run("restore", "acme", bob).output == "Bob Brown: active, org:admin\n"
    assert in_clerk(firm, BOB) == ADMIN_ROLE


def test_as_json_it_is_what_the_api_gives(firm: Firm, run: Run) -> None:
    told = json.loads(run("deactivate", "acme", firm.user_id(BOB), "--json").output)
    assert (told["member"]["status"], told["member"]["role"], told["notices"]) == ("deactivated", MEMBER_ROLE, [])


def test_a_refused_change_changes_nothing_and_prints_the_reason(firm: Firm, run: Run) -> None:
    run("remove", "acme", firm.user_id(DAN))
    refused = run("deactivate", "acme", firm.user_id(ADA))
    assert refused.exit_code == 1
    assert isinstance(refused.exception, ChangeRejectedError)
    assert str(refused.exception) == "This is the last admin. Make someone else an admin first."
    assert run("remove", "nowhere", "user_none").exit_code == 1
    assert run("role", "acme").exit_code == 2


def test_the_list_is_printed(firm: Firm, run: Run) -> None:
    assert "Acme: 5 members" in run("people", "acme").output
    assert json.loads(run("people", "acme", "--json").output)["totals"]["members"] == 5
