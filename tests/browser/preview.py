"""The pages with made-up people and nothing behind them. `python -m tests.browser.preview` serves them to look at."""

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.attention_pages import AttentionPages
from instep.console.responses import PageResponder
from instep.core.clock import DAY, HOUR, MINUTE, now
from instep.core.db_errors import DatabaseUnavailableError
from instep.core.errors import TemporaryError
from instep.core.pubsub import PubSub
from instep.core.templates import PageRenderer, create_page_renderer
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE, ClerkId, ClerkInvitation
from instep.invitations.pages import InvitationPages
from instep.invitations.policies import InvitationRefusedError, validate_email
from instep.members.listing import build_invitation_rows, merge_page
from instep.members.models import (
    InvitationsUnavailable,
    MemberFilter,
    MemberListPage,
    MemberQueryResult,
    MemberRow,
    RowAnnotations,
)
from instep.members.pages import MemberListPages

ORGANIZATION = "org_01"
NAMES = """Maya Cohen,Daniel Okafor,Aisha Rahman,Lucas Moreau,Ingrid Solberg,Tomás Herrera,Priya Nair,Noah Fischer,
Hana Suzuki,Elif Demir,Oliver Grant,Chiara Ricci,Samuel Adeyemi,Freya Lindqvist,Mateusz Kowalski,Zoë de Vries,
Rafael Costa,Leila Haddad,Jonas Weber,Amara Diallo,Sophie Laurent,Viktor Novák,Grace Mbeki,Ethan Park"""
SEATS = 30


def member(number: int, name: str, at: int) -> MemberRow:
    """A member of Northwind Law; the first two are admins, three others deactivated."""
    first, _, last = name.strip().partition(" ")
    is_away = number in (7, 15, 21)
    return MemberRow(
        id=f"mbr_{number:02}",
        clerk_id=f"orgmem_{number:02}",
        user_id=f"usr_{number:02}",
        clerk_user_id=f"user_{number:02}",
        email=plain(f"{first}.{last}@northwind.example"),
        first_name=first,
        last_name=last,
        username=None,
        image_url=None,
        role=ADMIN_ROLE if number < 2 else MEMBER_ROLE,
        status="deactivated" if is_away else "active",
        sort_name=f"{last} {first}".lower(),
        joined_at=at - (number * 17 + 12) * DAY,
        last_active_at=None if number == 11 else at - (number * number * 11 + 1) * MINUTE * (300 if is_away else 1),
    )


def plain(address: str) -> str:
    """An address without accents and spaces."""
    letters = unicodedata.normalize("NFKD", address.lower().replace(" ", ""))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def invitation(name: str, *, sent_at: int, lasts: int = 7 * DAY, role: str = MEMBER_ROLE) -> ClerkInvitation:
    """A pending invitation of the address `name` at the firm."""
    return ClerkInvitation(
        clerk_id=ClerkId(f"orginv_{name.split('@')[0].replace('.', '_')}"),
        email=name if "@" in name else f"{name}@northwind.example",
        role=role,
        status="pending",
        created_at=sent_at,
        expires_at=sent_at + lasts,
        inviter="Maya Cohen",
    )


@dataclass
class Firm:
    """Northwind Law, in memory. `is_clerk_down`, `is_database_down` and `refuses` make things fail."""

    members: list[MemberRow] = field(default_factory=list)
    invitations: list[ClerkInvitation] = field(default_factory=list)
    organizations: int = 2
    is_clerk_down: bool = False
    is_database_down: bool = False
    keys: list[str | None] = field(default_factory=list)
    live: PubSub = field(default_factory=PubSub)

    @classmethod
    def northwind(cls) -> "Firm":
        """24 members and four invitations: two pending, one about to expire, one expired."""
        at = now()
        return cls(
            members=[member(number, name, at) for number, name in enumerate(NAMES.split(","))],
            invitations=[
                invitation("nora.albrecht", sent_at=at - 3 * HOUR),
                invitation("kenji.watanabe", sent_at=at - 3 * DAY - HOUR, role=ADMIN_ROLE),
                invitation("ruth.bergman", sent_at=at - 6 * DAY + 5 * HOUR),
                invitation("pavel.horak", sent_at=at - 9 * DAY),
            ],
        )

    async def list_people(self, access: OrganizationAccess, ask: MemberFilter) -> MemberListPage:
        """The list, by the real merge."""
        if self.is_database_down:
            raise DatabaseUnavailableError("connection refused")
        found = (
            InvitationsUnavailable("timeout")
            if self.is_clerk_down
            else build_invitation_rows(self.invitations, now=now(), joined=())
        )
        return merge_page(ask, self._members(ask), found if ask.includes_invitations() else None)

    def _members(self, ask: MemberFilter) -> MemberQueryResult:
        counts: dict[tuple[str, str], int] = {}
        for row in self.members:
            counts[row.status, row.role] = counts.get((row.status, row.role), 0) + 1
        after = ask.cursor.member if ask.cursor else None
        found = [row for row in self.members if is_wanted(row, ask)]
        found.sort(key=key_of)
        return MemberQueryResult(rows=[r for r in found if not after or key_of(r) > after], counts=counts, seats=SEATS)

    async def invite(
        self, access: OrganizationAccess, *, email: str, role: str, idempotency_key: str | None = None
    ) -> ClerkInvitation:
        """Sends nothing; the address decides what happens."""
        self.keys.append(idempotency_key)
        address = validate_email(email)
        if address.startswith("slow"):
            raise TemporaryError("We do not know yet whether Clerk did it. Checking...")
        if address in {row.email for row in self.members}:
            raise InvitationRefusedError(f"{address} is already a member.", code="already_member", field="email")
        if address in {it.email for it in self.invitations}:
            raise InvitationRefusedError(
                f"{address} already has a pending invitation.", code="already_invited", field="email"
            )
        if address.startswith("full"):
            raise InvitationRefusedError("All 30 seats are in use (24 members, 6 invitations).", code="no_seats")
        sent = invitation(address, sent_at=now(), role=role)
        self.invitations.append(sent)
        return sent

    async def around(self, access: OrganizationAccess) -> RowAnnotations:
        """Nothing got lost, and nothing is under way."""
        return RowAnnotations()

    async def count_attention(self, organization_id: str | None) -> int:
        """Nothing here waits for a person."""
        return 0

    def accept(self, email: str) -> None:
        """What Clerk's webhooks would do: the invitation becomes a member, and open pages hear of it."""
        self.invitations = [it for it in self.invitations if it.email != email]
        first, _, last = email.partition("@")[0].title().partition(".")
        joined = member(len(self.members), f"{first} {last}", now())
        self.members.append(replace(joined, joined_at=now(), last_active_at=now()))
        self.live.publish([ORGANIZATION])


def is_wanted(row: MemberRow, ask: MemberFilter) -> bool:
    """The filter that the database applies."""
    text = f"{row.first_name} {row.last_name} {row.email}".lower()
    return (
        row.status in ask.member_statuses() and (not ask.roles or row.role in ask.roles) and ask.query.lower() in text
    )


def key_of(row: MemberRow) -> tuple[str, str, str]:
    """The order of the list."""
    return (row.status, row.sort_name, row.id)


@dataclass(frozen=True)
class Door:
    """Who comes in: the cookie `as` says `member` for someone who may only read, otherwise it is an admin."""

    firm: Firm
    pages: PageRenderer

    async def principal(self, request: Request) -> Principal | Response:
        is_member = request.cookies.get("as") == "member"
        row = self.firm.members[4 if is_member else 0]
        name = f"{row.first_name} {row.last_name}"
        return Principal(kind="person", name=name, email=row.email, user_id=row.user_id)

    async def access(self, request: Request, reference: str) -> OrganizationAccess | Response:
        principal = await self.principal(request)
        assert isinstance(principal, Principal)
        found = [access for access in await self.organizations(principal) if access.organization_slug == reference]
        if found:
            return found[0]
        return self.pages.error(request, status=404, title="Not found", text="There is no such page, or not for you.")

    async def organizations(
        self, principal: Principal, /, query: str = "", limit: int = 500
    ) -> Sequence[OrganizationAccess]:
        names = ["Northwind Law", "Fabrikam Studio", "Contoso Pharma"][: self.firm.organizations]
        names = [name for name in names if query.lower() in name.lower()][:limit]
        is_admin = principal.user_id == self.firm.members[0].user_id
        return [
            OrganizationAccess(
                principal=principal,
                organization_id=f"org_{number:02}",
                organization_clerk_id=f"org_clerk_{number}",
                organization_name=name,
                organization_slug=name.lower().replace(" ", "-"),
                role=ADMIN_ROLE if is_admin else MEMBER_ROLE,
            )
            for number, name in enumerate(names, 1)
        ]

    async def become(self, request: Request) -> Response:
        """`/as/member` and `/as/admin`: come in as someone else."""
        answer = RedirectResponse("/")
        answer.set_cookie("as", request.path_params["who"])
        return answer

    async def flip(self, request: Request) -> Response:
        """`/flip/is_clerk_down`: turn one of the firm's troubles on, or off again."""
        what = request.path_params["what"]
        setattr(self.firm, what, not getattr(self.firm, what))
        return RedirectResponse("/")

    async def accept(self, request: Request) -> Response:
        """`/accept/nora.albrecht@northwind.example`: the invitation is accepted, and open pages show it."""
        self.firm.accept(request.path_params["email"])
        return RedirectResponse("/")

    async def alone(self, request: Request) -> Response:
        """The pages without a frame."""
        what = request.path_params["what"]
        if what == "sign-in":
            context = {"sign_in_url": "/", "has_break_glass": True, "next": "/", "error": None}
            return self.pages.page(request, "console/sign_in.html", status=200, **context)
        if what == "denied":
            return self.pages.page(request, "console/denied.html", principal=await self.principal(request))
        return self.pages.error(request, status=404, title="Not found", text="There is no such page, or not for you.")


def preview(firm: Firm, public_url: str) -> Starlette:
    """The app: the real pages, wired to a made-up firm."""
    pages = create_page_renderer(public_url=public_url)
    door = Door(firm, pages)
    console = PageResponder(
        renderer=pages,
        require_principal=door.principal,
        require_access=door.access,
        list_organizations=door.organizations,
        count_attention=firm.count_attention,
    )
    people = MemberListPages(
        console=console,
        roles=lambda access: access.roles.options,
        list_people=firm.list_people,
        listen_for_changes=firm.live.listen,
        annotations=firm.around,
    )
    invitations = InvitationPages(console=console, roles=lambda access: access.roles.options, invitations=firm)  # type: ignore[arg-type]
    looks = [
        Route("/as/{who}", door.become),
        Route("/flip/{what}", door.flip),
        Route("/accept/{email}", door.accept),
        Route("/alone/{what}", door.alone),
    ]
    attention = AttentionPages(console=console, listen=firm.live.listen)
    routes = [*people.routes(), *invitations.routes(), *attention.routes(), *pages.routes(), *looks]
    return Starlette(routes=routes)


if __name__ == "__main__":
    import uvicorn

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8700
    uvicorn.run(preview(Firm.northwind(), f"http://127.0.0.1:{port}"), port=port, log_level="warning")
