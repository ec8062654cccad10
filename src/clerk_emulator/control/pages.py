"""The overview, the lists that a person looks at, and what can be done there."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from clerk_emulator.control import deeds, door
from clerk_emulator.control.desk import Desk
from clerk_emulator.control.lists import LISTS, MOST, time_text
from clerk_emulator.state.refusals import NotEmulated, Refused
from clerk_emulator.wire.pages import page


def routes(desk: Desk) -> list[Route]:
    """Return the routes of the pages."""

    async def overview(request: Request) -> Response:
        totals = desk.totals()
        counts = {
            **totals,
            "invitations": totals["organization_invitations"],
            "requests": len(desk.journal.list()),
            "faults": len(desk.faults.list()),
        }
        kinds = [(name, counts[name], LISTS[name].title) for name in LISTS]
        return page(
            "overview.html",
            title="Overview",
            kinds=kinds,
            url=desk.site.url,
            publishable_key=desk.site.publishable_key,
            now=time_text(desk.instance.now),
            wide=True,
        )

    async def listing(request: Request) -> Response:
        return _list(desk, request.path_params["name"])

    return [
        Route("/", overview),
        Route("/_emulator/pages/{name}", listing),
        Route("/_emulator/pages/{name}/{deed}", _doing(desk), methods=["POST"]),
    ]


def _doing(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def do(request: Request) -> Response:
        name, deed = request.path_params["name"], deeds.DEEDS.get(request.path_params["deed"])
        if door.is_foreign(request):
            return PlainTextResponse("This form was sent by another site.", status_code=403)
        if deed is None or (name not in LISTS and name != "overview"):
            return page("message.html", status=404, title="Not found", text="There is no such page.")
        form = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
        try:
            deed(desk, form)
        except (Refused, NotEmulated, ValueError, LookupError) as wrong:
            return _list(desk, name if name in LISTS else "users", problem=deeds.words(wrong))
        return RedirectResponse("/" if name == "overview" else f"/_emulator/pages/{name}", status_code=303)

    return do


def _list(desk: Desk, name: str, problem: str = "") -> Response:
    found = LISTS.get(name)
    if found is None:
        return page("message.html", status=404, title="Not found", text="There is no such page.")
    values: dict[str, Any] = {
        "title": found.title,
        "name": name,
        "text": f"The newest {MOST}, at {time_text(desk.instance.now)}.",
        "columns": found.columns,
        "rows": list(found.rows(desk)),
        "form": found.form,
        "others": [(other, one.title) for other, one in LISTS.items()],
        "problem": problem,
    }
    return page("table.html", status=422 if problem else 200, wide=True, **values)
