"""Changing many members at once, and taking the list along as a file."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from instep.access.console import Console
from instep.access.frame import home_of
from instep.access.principal import Access
from instep.kit.confirm import Confirm
from instep.kit.errors import InstepError
from instep.kit.outcomes import DONE, OPEN, SAME, SKIPPED, Outcome, Outcomes, count, status_of
from instep.people.acting import HERE, key_of
from instep.people.bulk import MOST, Action, BulkRow
from instep.people.members import Members
from instep.people.search import ask_of, parse

ENDS = {"done": DONE, "open": OPEN, "unchanged": SAME, "refused": SKIPPED}
WORD_FROM = 2  # that many people at once, and a destructive change asks for a word


@dataclass(frozen=True)
class ManyMembers:
    """The handlers and what they need. `names` gives what to call members, by the ids of their persons."""

    console: Console
    members: Members
    roles: Callable[[Access], Sequence[tuple[str, str]]]
    names: Callable[[Access, Sequence[str]], Awaitable[dict[str, str]]]

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list before those of one member."""
        at = "/organizations/{id}/members"
        return [
            Route(f"{at}/bulk", self.ask, methods=["GET"]),
            Route(f"{at}/bulk", self.change, methods=["POST"]),
            Route(f"{at}/export", self.export, methods=["GET"]),
        ]

    async def ask(self, request: Request) -> Response:
        """The question, with everyone who is meant."""
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        action = action_of(request.query_params.get("action", ""))
        picked = list(dict.fromkeys(request.query_params.getlist("member")))[:MOST]
        names = await self.names(access, picked)
        if action is None or not names:
            _ = self.console.words.gettext
            return self.console.pages.error(
                request, status=422, title=_("Nobody is selected"), text=_("Choose people.")
            )
        return await self.console.ask(request, self._question(access, action, names), access, here=HERE)

    async def change(self, request: Request) -> Response:
        """Each is a change of its own; what became of each is told."""
        if foreign := self.console.foreign(request):
            return foreign
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        action = action_of(str(form.get("action", "")))
        picked, role = [str(it) for it in form.getlist("member")], str(form.get("role", ""))
        names = await self.names(access, picked)
        try:
            if action is None or not self._is_meant(action, names, str(form.get("word", ""))):
                return self._not_meant(request)
            key = await key_of(request, salt=f"{action} {role}")
            result = await self.members.bulk(access, action, picked, role=role or None, idempotency_key=key)
        except InstepError as error:
            return self.console.refused(request, error, base=home_of(access))
        return await self.console.tell(request, self._told(access, result.rows, names), access, here=HERE)

    async def export(self, request: Request) -> Response:
        """The filtered list as a file: CSV, or JSON."""
        access = await self.console.member(request)
        if isinstance(access, Response):
            return access
        query = request.query_params
        search = parse(query.get("q", ""), has_deactivated=query.get("deactivated") == "1", roles=access.roles)
        ending = "json" if query.get("format") == "json" else "csv"
        found = await self.members.export(
            access,
            ask_of(search, limit=MOST, now=self.console.pages.clock()),
            format="json" if ending == "json" else "csv",
        )
        media = "application/json" if ending == "json" else "text/csv; charset=utf-8"
        headers = {"Content-Disposition": f'attachment; filename="people.{ending}"', "Cache-Control": "no-store"}
        return StreamingResponse(found.parts, media_type=media, headers=headers)

    def _question(self, access: Access, action: Action, names: dict[str, str]) -> Confirm:
        words, number = self.console.words, len(names)
        _ = words.gettext
        titles = {
            "role": words.ngettext("Change the role of %(num)s person", "Change the role of %(num)s people", number),
            "deactivate": words.ngettext("Deactivate %(num)s person?", "Deactivate %(num)s people?", number),
            "reactivate": words.ngettext("Reactivate %(num)s person?", "Reactivate %(num)s people?", number),
            "remove": words.ngettext("Remove %(num)s person?", "Remove %(num)s people?", number),
        }
        said = {
            "role": _("It counts at once, here and in Clerk."),
            "deactivate": _("They are out at their next click, and their sessions in Clerk end."),
            "reactivate": _("They can come in again at once, with the role they had."),
            "remove": _("They lose access here and in Clerk. You can invite them again."),
        }
        return Confirm(
            title=titles[action],
            verb=verb_of(action, self.console),
            action=f"{home_of(access)}/members/bulk",
            cancel=f"{home_of(access)}/members",
            consequences=(said[action], _("Each is changed by itself; whoever can't be is skipped, with the reason.")),
            people=tuple(names.values()),
            is_destructive=action in ("deactivate", "remove"),
            word=_word(action, names, self.console),
            field="role" if action == "role" else "",
            label=_("Role"),
            choices=tuple(self.roles(access)) if action == "role" else (),
            fields=(("action", action), *(("member", id) for id in names)),
            is_in_place=True,
        )

    def _is_meant(self, action: Action, names: dict[str, str], word: str) -> bool:
        wanted = _word(action, names, self.console)
        return bool(names) and (not wanted or word.strip().lower() == wanted.lower())

    def _not_meant(self, request: Request) -> Response:
        _ = self.console.words.gettext
        text = _("The word was not typed as asked.")
        return self.console.pages.error(request, status=422, title=_("Nothing was changed"), text=text)

    def _told(self, access: Access, rows: Sequence[BulkRow], names: dict[str, str]) -> Outcomes:
        words = self.console.words
        return Outcomes(
            title=count([ENDS[row.outcome] for row in rows], words),
            rows=[
                Outcome(
                    name=names.get(row.member, row.member),
                    status=status_of(ENDS[row.outcome], words),
                    note=words.gettext(row.message) if row.message else "",
                )
                for row in rows
            ],
            back=f"{home_of(access)}/members",
        )


def action_of(text: str) -> Action | None:
    """An action that was asked for."""
    known: tuple[Action, ...] = get_args(Action)
    return next((action for action in known if action == text), None)


def verb_of(action: Action, console: Console) -> str:
    """The word on the button."""
    _ = console.words.gettext
    verbs = {"role": _("Change role"), "deactivate": _("Deactivate")}
    return (verbs | {"reactivate": _("Reactivate"), "remove": _("Remove")})[action]


def _word(action: Action, names: dict[str, str], console: Console) -> str:
    is_grave = action in ("deactivate", "remove") and len(names) >= WORD_FROM
    return verb_of(action, console).lower() if is_grave else ""
