"""The forms about a person: shown, and shown again with what is wrong and what was rolled back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from instep.access.console import Console
from instep.identity.refusals import status_of
from instep.kit.confirm import new_key
from instep.kit.errors import InstepError, TemporaryError
from instep.kit.html import is_partial, request_id_of
from instep.profiles.profile import Profile
from instep.profiles.rules import NOT_SYNCED_CODE
from instep.profiles.spots import Spot

NAMES = ("first_name", "last_name", "username")
SECRETS = ("password", "code")


@dataclass(frozen=True)
class Forms:
    """Shows forms: a dialog over an open page, else a page."""

    console: Console

    async def show(
        self, request: Request, spot: Spot, form: str, typed: Mapping[str, str], it: Profile | None = None, **more: Any
    ) -> Response:
        """One form; `more` are `error`, `field`, `rolled` and `request_id`, or `is_new` for an answer of its own."""
        context: dict[str, Any] = {
            "form": form,
            "typed": {"key": new_key(), **typed},
            "at": spot.at,
            "back": spot.back,
            "name": it.person.name if it else "",
            "row": f"row-{it.person.id}" if it else "",
            "rolled": {},
            "error": "",
            "field": None,
            "request_id": None,
            **more,
        }
        piece = "form" if request.method == "POST" and not more.get("is_new") else "form_dialog"
        if is_partial(request):
            return self.console.pages.fragment(request, f"profiles/{piece}.html", **context)
        return await self.console.page(request, "profiles/form_page.html", spot.asker, here=spot.here, **context)

    async def wrong(
        self,
        request: Request,
        spot: Spot,
        form: str,
        typed: Mapping[str, str],
        error: InstepError,
        it: Profile | None = None,
    ) -> Response:
        """The form again, with what is wrong. An end that is not known is awaited outside.

        What was typed stays, to be mended; but where Clerk did not take it, the fields go back to what is true, and
        say what was not saved. Secrets are never sent back.
        """
        if isinstance(error, TemporaryError):
            return self.console.refused(request, error, base=spot.base)
        stored = names_of(it) if it and form == "edit" and getattr(error, "code", "") == NOT_SYNCED_CODE else {}
        more = {
            "rolled": {name: typed[name] for name in stored if name in typed and typed[name] != stored[name]},
            "error": self.console.words.say(error),
            "field": getattr(error, "field", None),
            "request_id": request_id_of(request),
        }
        kept = {name: text for name, text in typed.items() if name not in SECRETS}
        answer = await self.show(request, spot, form, {**kept, **stored, "key": new_key()}, it, **more)
        answer.status_code = status_of(error)
        return answer


def names_of(it: Profile) -> dict[str, str]:
    """The names of somebody, as a form has them."""
    return {name: getattr(it.person, name) or "" for name in NAMES}


def in_dialog(answer: Response) -> Response:
    """A form is answered by another dialog instead of itself."""
    answer.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
    return answer


async def typed_in(request: Request) -> dict[str, str]:
    """What was typed into a form, without the space around it; a password as it is."""
    fields = (await request.form()).items()
    return {name: text if name in SECRETS else text.strip() for name, text in fields if isinstance(text, str)}


def key_in(request: Request, typed: Mapping[str, str]) -> str | None:
    """The key of one form as it was filled in: the same twice is one operation. No secret goes into it."""
    words = " ".join(f"{name}={text}" for name, text in sorted(typed.items()) if name not in SECRETS)
    return hashlib.sha256(f"{request.url.path} {words}".encode()).hexdigest() if typed.get("key") else None
