"""The pages of what happened: who sees what of it, what they may end, and that names are told where they are known."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from instep.audit.pages import AuditPages
from instep.audit.repository import NewAuditEntry, record_entries
from instep.audit.service import AuditService
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess, Principal
from instep.console.responses import PageResponder
from instep.core.clock import DAY, Millis
from instep.core.db import Conn, Database
from instep.core.templates import create_page_renderer
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.mirror.tables import memberships, organizations, users
from instep.operations import repository
from instep.operations.pages import OperationPages
from instep.operations.repository import count_operations_needing_attention
from instep.operations.service import OperationService
from instep.operations.workflow import Operation, OperationRequest, OperationState

NOW = 1_795_219_200_000
HOME = "/organizations/firm"
OURS = {"Origin": "http://testserver"}
PARTIAL = {**OURS, "HX-Request": "true", "HX-Request-Type": "partial"}
MAYA = Principal(kind="person", name="Maya Cohen", user_id="usr_1", clerk_user_id="user_1")
ACCESSES = {
    "admin": OrganizationAccess(
        principal=MAYA,
        organization_id="ogn_1",
        organization_clerk_id="org_1",
        organization_name="Firm",
        organization_slug="firm",
        role=ADMIN_ROLE,
    ),
    "member": OrganizationAccess(
        principal=MAYA,
        organization_id="ogn_1",
        organization_clerk_id="org_1",
        organization_name="Firm",
        organization_slug="firm",
        role=MEMBER_ROLE,
    ),
}


def put_people(conn: Conn) -> None:
    """Maya and Omar, in one firm."""
    named = {"search_text": "", "joined_at": 1, "changed_at": 1}
    firm = {"id": "ogn_1", "clerk_id": "org_1", "name": "Firm", "slug": "firm", "joined_at": 1, "changed_at": 1}
    conn.execute(sa.insert(organizations).values(**firm))
    for number, (first, last) in enumerate([("Maya", "Cohen"), ("Omar", "Haddad")], 1):
        person = {"first_name": first, "last_name": last, "email": f"{first.lower()}@x.example"}
        sought = f"{first} {last} {first}@x.example".lower()
        ids = {"id": f"usr_{number}", "clerk_id": f"user_{number}", "sort_name": last.lower()}
        conn.execute(sa.insert(users).values(**named | ids | person | {"search_text": sought}))
        theirs = {"organization_id": "ogn_1", "user_id": f"usr_{number}", "role": ADMIN_ROLE, "status": "active"}
        ids = {"id": f"mbr_{number}", "clerk_id": f"orgmem_{number}", "sort_name": last.lower()}
        conn.execute(sa.insert(memberships).values(**named | ids | theirs))


def put(
    db: Database, target: str, state: OperationState = "open", organization: str = "ogn_1", reason: str | None = None
) -> Operation:
    asked = OperationRequest(kind="member.role", target=target, actor="usr_1", intent={}, organization_id=organization)
    operation = db.write_sync(repository.insert_operation, asked, now=NOW - 5_000, until=NOW + 9_000)
    assert operation is not None
    if state != "open":
        return db.write_sync(repository.finish_operation, operation, state, now=NOW, reason=reason, code="no")
    return operation


@pytest.fixture
def client(db: Database) -> Iterator[TestClient]:
    """The pages; the header `as` says who asks: admin, member, or (otherwise) the instance's admin."""
    db.write_sync(put_people)
    pages = create_page_renderer(public_url="http://testserver", clock=lambda: Millis(NOW))

    async def principal(request: Request) -> Principal | Response:
        return BREAK_GLASS_PRINCIPAL if "as" not in request.headers else MAYA

    async def access(request: Request, _ref: str) -> OrganizationAccess | Response:
        return ACCESSES[request.headers["as"]]

    async def organizations_of(_principal: Principal, /, query: str = "", limit: int = 500) -> list[OrganizationAccess]:
        return [ACCESSES["admin"]]

    async def attention(organization_id: str | None) -> int:
        return await db.read(count_operations_needing_attention, organization_id)

    operations = OperationService(db=db, record_audit=lambda _conn, _operation: None, clock=lambda: Millis(NOW))
    console = PageResponder(
        renderer=pages,
        require_principal=principal,
        require_access=access,
        list_organizations=organizations_of,
        count_attention=attention,
    )
    operation_pages = OperationPages(console=console, db=db, operations=operations)
    audit_pages = AuditPages(console=console, db=db, audit=AuditService(db))
    routes = [*operation_pages.routes(), *audit_pages.routes(), *pages.routes()]
    with TestClient(Starlette(routes=routes), follow_redirects=False) as client:
        yield client


ADMIN_SENDS, MEMBER_SENDS = {"as": "admin"}, {"as": "member"}


@pytest.mark.parametrize("page", ["operations", "audit", "audit/export"])
def test_only_admins_see_history(client: TestClient, page: str) -> None:
    """An organization's for its admins, everything for instance admins."""
    assert client.get(f"{HOME}/{page}", headers=ADMIN_SENDS).status_code == 200
    assert client.get(f"{HOME}/{page}", headers=MEMBER_SENDS).status_code == 403
    assert client.get(f"/{page}").status_code == 200
    assert client.get(f"/{page}", headers=ADMIN_SENDS).status_code == 403


def test_what_needs_a_person_comes_first_and_is_counted(client: TestClient, db: Database) -> None:
    put(db, "membership:mbr_2", "attention", reason="Refused halfway.")
    put(db, "membership:mbr_1", "settled")
    put(db, "membership:mbr_1")
    put(db, "membership:mbr_9", "attention", organization="ogn_2")
    text = client.get(f"{HOME}/operations", headers=ADMIN_SENDS).text
    assert text.index("Refused halfway.") < text.index("Syncing</span>") < text.index("Done</span>")
    assert "Change role: Omar Haddad" in text
    assert '<span class="side-badge">1<' in text
    assert "mbr_9" not in text
    assert "mbr_9" in client.get("/operations").text


def test_a_filter_and_the_next_rows(client: TestClient, db: Database) -> None:
    for number in range(27):
        put(db, f"membership:x{number}", "refused")
    put(db, "membership:mbr_1", "settled")
    whole = client.get(f"{HOME}/operations?state=refused", headers=ADMIN_SENDS).text
    assert (whole.count('<tr role="row" id='), 'title="Maya Cohen"' in whole) == (25, False)
    more = whole.partition('id="more"')[2].partition('href="')[2].partition('"')[0].replace("&amp;", "&")
    rows = client.get(more, headers=ADMIN_SENDS | PARTIAL).text
    assert (rows.count('<tr role="row" id='), rows.count("<hx-partial")) == (2, 2)


def test_trying_again_and_giving_up(client: TestClient, db: Database) -> None:
    """Each asks for a form of ours; a second time is told why not, with the id of the request."""
    operation = put(db, "membership:mbr_2", "attention")
    base = f"{HOME}/operations/{operation.id}"
    assert client.post(f"{base}/retry", headers=ADMIN_SENDS).status_code == 403
    assert client.post(f"{base}/retry", headers=ADMIN_SENDS | PARTIAL).status_code == 200
    assert client.get(f"{base}/outcome", headers=ADMIN_SENDS).json() == {"is_open": True}
    assert (
        "needs attention can be retried"
        in client.post(f"{base}/retry", headers=ADMIN_SENDS | PARTIAL).headers["hx-trigger"]
    )
    assert "No further attempt is made." in client.get(f"{base}/give-up", headers=ADMIN_SENDS).text
    assert client.post(f"{base}/give-up", headers=ADMIN_SENDS | OURS).status_code == 303
    toast = client.get(f"{base}/outcome", headers=ADMIN_SENDS).json()["toast"]
    assert (toast["title"], toast["tone"]) == ("Change role: Omar Haddad", "error")


def test_an_operation_of_another_organization_is_not_there(client: TestClient, db: Database) -> None:
    theirs = put(db, "membership:mbr_9", "attention", organization="ogn_2")
    for method, path in (("GET", "outcome"), ("GET", "give-up"), ("POST", "give-up"), ("POST", "retry")):
        url = f"{HOME}/operations/{theirs.id}/{path}"
        assert client.request(method, url, headers=ADMIN_SENDS | OURS).status_code == 404


def put_entries(db: Database) -> None:
    entries = [
        NewAuditEntry(actor="usr_1", action="member.role", target="membership:mbr_2", organization_id="ogn_1"),
        NewAuditEntry(
            actor="break_glass", action="key.created", target="key_1", details={"name": "CI", "scopes": "read"}
        ),
    ]
    db.write_sync(record_entries, entries, now=NOW - 3 * DAY)


def test_whoever_asked_for_an_operation_learns_how_it_ends(client: TestClient, db: Database) -> None:
    """Also where they are no admin: their page waits for it. Nobody else's, and nothing of another organization."""
    asked = OperationRequest(kind="profile.edit", target="user:usr_1", actor="usr_1", intent={})
    mine = db.write_sync(repository.insert_operation, asked, now=NOW - 5_000, until=NOW + 9_000)
    theirs = db.write_sync(
        repository.insert_operation, replace(asked, actor="usr_2", target="user:usr_2"), now=NOW, until=NOW + 9_000
    )
    assert mine is not None
    assert theirs is not None
    at = f"{HOME}/operations"
    assert client.get(f"{at}/{mine.id}/outcome", headers=MEMBER_SENDS).json() == {"is_open": True}
    assert client.get(f"{at}/{theirs.id}/outcome", headers=MEMBER_SENDS).status_code == 403
    assert client.get(f"{at}/{mine.id}/give-up", headers=MEMBER_SENDS).status_code == 403


def test_the_audit_tells_names(client: TestClient, db: Database) -> None:
    put_entries(db)
    text = client.get("/audit").text
    for words in ("Change role", "Omar Haddad", "Maya Cohen", "Create key", "Break-glass key", "CI", "3 d ago"):
        assert words in text


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 2),
        ("q=role", 1),
        ("action=key", 1),
        ("person=omar", 1),
        ("person=haddad@x", 0),
        ("person=usr_2", 1),
        ("person=x.example", 0),
        ("organization=ogn_1", 1),
        ("organization=ogn_2", 0),
        ("since=2026-11-18&until=2026-11-18", 2),
        ("since=2026-11-19", 0),
        ("since=tomorrow", 2),
    ],
)
def test_the_audit_is_filtered(client: TestClient, db: Database, query: str, count: int) -> None:
    put_entries(db)
    text = client.get(f"/audit?{query}", headers=PARTIAL).text
    assert text.count('<tr role="row" id=') == count
    assert ("No entries found" in text or "no such" in text or "No one" in text or "Several" in text) == (count == 0)


def test_the_export_holds_what_the_page_shows(client: TestClient, db: Database) -> None:
    put_entries(db)
    lines = client.get("/audit/export?person=omar").text.splitlines()
    assert (len(lines), "member.role" in lines[1]) == (2, True)
    assert client.get("/audit/export?person=x.example").status_code == 422
