"""The page of deliveries: what Clerk sent, what each did, and having one or many worked once more."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.principal import Principal
from instep.audit.store import Kept
from instep.inbox.asking import FAMILIES, STATES, DeliveryAsk, ask_of
from instep.inbox.review import Deliveries
from instep.inbox.store import Filter, Row
from instep.inbox.view import DeliveryRow, Event, delivery_row, ids_of, status
from instep.kit.errors import InstepError, PermanentError
from instep.kit.html import is_partial
from instep.kit.outcomes import DONE, SKIPPED, Outcome, Outcomes, count, status_of

HERE = "/deliveries"
PAGE, MOST = 25, 200


class Who(Struct, frozen=True):
    """Someone whom a reader may mean: our id, Clerk's, and what to call them."""

    id: str
    clerk_id: str | None
    name: str
    email: str | None


class Meant(Struct, frozen=True, kw_only=True):
    """Whom a filter may mean, and what to ask for; None where that is not clear."""

    people: Sequence[Who] = ()
    filter: Filter | None = None


@dataclass(frozen=True)
class DeliveryPages:
    """The handlers and what they need.

    `people` finds whom some words mean, `names` what to call Clerk's ids, `events` tells the audit's entries in words.
    """

    console: Console
    deliveries: Deliveries
    people: Callable[[str], Awaitable[Sequence[Who]]]
    names: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    events: Callable[[Sequence[Kept]], Awaitable[Sequence[Event]]]

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/deliveries", self.list_deliveries, methods=["GET"]),
            Route("/deliveries/replay", self.replay_many, methods=["POST"]),
            Route("/deliveries/{delivery}", self.show, methods=["GET"]),
            Route("/deliveries/{delivery}/replay", self.replay, methods=["POST"]),
        ]

    async def list_deliveries(self, request: Request) -> Response:
        """The page; for htmx its region alone, or the next rows alone."""
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        ask = ask_of(request.query_params)
        meant = await self._meant(asker, ask)
        shown = await self.deliveries.list(meant.filter, before=ask.before, limit=PAGE) if meant.filter else None
        more = None
        if shown and shown.next:
            url = request.url.include_query_params(before=f"{shown.next[0]}.{shown.next[1]}")
            more = f"{url.path}?{url.query}"
        words = self.console.words
        context: dict[str, Any] = {
            "rows": await self._rows(shown.rows if shown else []),
            "more": more,
            "has_cursor": ask.before is not None,
            "ask": ask,
            "people": meant.people,
            "families": FAMILIES,
            "states": [(key, status(kinds[-1], words)) for key, kinds in STATES.items()],
            "places": await self.console.organizations(asker),
            "path": HERE,
        }
        if not (is_partial(request) and ask.before):
            context["foreign"] = await self.deliveries.count_foreign()
        if not is_partial(request):
            return await self.console.page(request, "inbox/deliveries.html", asker, here=HERE, **context)
        piece = "more" if ask.before else "region"
        return self.console.pages.fragment(request, f"inbox/deliveries_{piece}.html", **context)

    async def show(self, request: Request) -> Response:
        """One delivery: what it said, what it did, what became of it since. A drawer in an open page, else a page."""
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            told = await self.deliveries.tell(request.path_params["delivery"])
        except PermanentError as error:
            return self.console.refused(request, error, title=self.console.words.gettext("Not found"))
        (row,) = await self._rows([told.row])
        story = await self.events(told.history)
        context: dict[str, Any] = {"row": row, "payload": told.payload, "story": story, "back": HERE}
        if is_partial(request):
            return self.console.pages.fragment(request, "inbox/delivery.html", **context)
        return await self.console.page(request, "inbox/delivery_page.html", asker, here=HERE, **context)

    async def replay(self, request: Request) -> Response:
        """Have one worked once more."""
        if foreign := self.console.foreign(request):
            return foreign
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            await self.deliveries.replay(request.path_params["delivery"], actor=asker.id)
        except InstepError as error:
            return self.console.refused(request, error)
        _ = self.console.words.gettext
        return self.console.done(request, _("It is being worked once more"), HERE)

    async def replay_many(self, request: Request) -> Response:
        """Have those that were chosen worked once more; what became of each is told."""
        if foreign := self.console.foreign(request):
            return foreign
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        chosen = list(dict.fromkeys(str(it) for it in (await request.form()).getlist("delivery")))[:MOST]
        _ = self.console.words.gettext
        if not chosen:
            text = _("Choose deliveries that are parked or done.")
            return self.console.pages.error(request, status=422, title=_("Nothing is selected"), text=text)
        ends = [(id, await self._replay_one(id, asker)) for id in chosen]
        keys = [SKIPPED if reason else DONE for _id, reason in ends]
        rows = [
            Outcome(name=id, status=status_of(key, self.console.words), note=reason)
            for (id, reason), key in zip(ends, keys, strict=True)
        ]
        title = _("To be worked once more: %(count)s", count=count(keys, self.console.words))
        return await self.console.tell(request, Outcomes(title=title, rows=rows, back=HERE), asker, here=HERE)

    async def _replay_one(self, id: str, asker: Principal) -> str:
        """Why it was not done; nothing where it was."""
        try:
            await self.deliveries.replay(id, actor=asker.id)
        except PermanentError as error:
            return self.console.words.say(error)
        return ""

    async def _meant(self, asker: Principal, ask: DeliveryAsk) -> Meant:
        """Whom a filter means."""
        organization = None
        if ask.organization:
            places = await self.console.organizations(asker)
            known = {it.organization_id: it.organization_clerk_id for it in places}
            organization = known.get(ask.organization) or ask.organization
        if not ask.person:
            return Meant(filter=ask.filter(None, organization))
        people = await self.people(ask.person)
        ids = [it.clerk_id for it in people if it.clerk_id]
        if ask.person.startswith("user_") and not people:
            ids = [ask.person]  # somebody whom only Clerk knew
        return Meant(people=people, filter=ask.filter(ids, organization) if len(ids) == 1 else None)

    async def _rows(self, rows: Sequence[Row]) -> list[DeliveryRow]:
        names = await self.names(ids_of(rows)) if rows else {}
        now = self.console.pages.clock()
        return [delivery_row(it, names, self.console.words, now=now) for it in rows]
