"""The command palette and the organization switcher: what they look for is found with the reader's rights."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.access.commands import MOST, Command, groups_of
from instep.access.console import Console
from instep.access.frame import SHOWN, place_of
from instep.access.principal import Access, Principal
from instep.kit.html import is_partial

LONGEST = 200  # characters that are looked for
FEW = 5  # organizations that are offered before anything is typed
FindPeople = Callable[[Access | Principal, str], Awaitable[Sequence[Command]]]


@dataclass(frozen=True)
class PalettePages:
    """The handlers and what they need. `people` gives the people that some words mean, as far as the asker may see."""

    console: Console
    people: FindPeople

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/commands", self.commands, methods=["GET"]),
            Route("/places", self.places, methods=["GET"]),
        ]

    async def commands(self, request: Request) -> Response:
        """What `q` means, seen from the organization `at`; for htmx the list alone, without scripts a page."""
        found = await self._asker(request)
        if isinstance(found, Response):
            return found
        principal, asker = found
        text = _words(request)
        people = (await self.people(asker, text))[:MOST] if text else []
        organizations = await self.console.organizations(principal, query=text, limit=MOST if text else FEW)
        frame = await self.console.frame(asker, "")
        has_choice = text or len(organizations) > 1
        groups = groups_of(asker, frame, people, organizations if has_choice else [], text, self.console.words)
        context: dict[str, Any] = {"groups": groups, "sought": text, "at": frame.at}
        if is_partial(request):
            return self.console.pages.fragment(request, "access/palette_list.html", **context)
        return self.console.pages.page(request, "access/palette_page.html", frame=frame, **context)

    async def places(self, request: Request) -> Response:
        """The organizations that `q` means, for the switcher."""
        found = await self._asker(request)
        if isinstance(found, Response):
            return found
        principal, asker = found
        organizations = await self.console.organizations(principal, query=_words(request), limit=SHOWN + 1)
        current = asker if isinstance(asker, Access) else None
        context: dict[str, Any] = {
            "places": [place_of(it, current) for it in organizations[:SHOWN]],
            "has_more": len(organizations) > SHOWN,
        }
        return self.console.pages.fragment(request, "places_found.html", **context)

    async def _asker(self, request: Request) -> tuple[Principal, Access | Principal] | Response:
        """Who asks, and from which organization; one that is not theirs to see is none."""
        principal = await self.console.principal(request)
        if isinstance(principal, Response):
            return principal
        at = request.query_params.get("at", "")
        access = await self.console.access(request, at) if at else None
        return principal, access if isinstance(access, Access) else principal


def _words(request: Request) -> str:
    return request.query_params.get("q", "").strip()[:LONGEST].replace("\0", "")
