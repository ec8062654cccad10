"""Where a person is looked at: in an organization, or above them all; and whom, by the address."""

from dataclasses import dataclass

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from instep.access.console import Console
from instep.access.frame import home_of
from instep.access.principal import Access, Principal
from instep.kit.errors import InstepError
from instep.profiles.flows import Profiles
from instep.profiles.profile import Profile


class Spot(Struct, frozen=True, kw_only=True):
    """Where a person is looked at: in an organization (an access), or above them all (a principal)."""

    asker: Access | Principal
    at: str
    back: str
    here: str

    @property
    def principal(self) -> Principal:
        """Who looks."""
        return self.asker.principal if isinstance(self.asker, Access) else self.asker

    @property
    def base(self) -> str:
        """What is above the operations here."""
        return home_of(self.asker) if isinstance(self.asker, Access) else ""


@dataclass(frozen=True)
class Finder:
    """Finds who looks, from where, at whom."""

    console: Console
    profiles: Profiles

    async def __call__(self, request: Request, *, is_change: bool = False) -> tuple[Spot, Profile] | Response:
        """Who looks, from where, at whom; or what to answer instead."""
        foreign = self.console.foreign(request) if is_change else None
        if foreign:
            return foreign
        spot = await self._spot(request)
        if isinstance(spot, Response):
            return spot
        _ = self.console.words.gettext
        try:
            found = await self.profiles.users.get(spot.principal, request.path_params["user"])
        except InstepError as error:
            return self.console.refused(request, error, title=_("Not found"))
        is_here = not isinstance(spot.asker, Access) or any(
            place.organization_id == spot.asker.organization_id for place in found.belongings
        )
        if is_here:
            return spot, found
        text = _("There is no such person in this organization.")
        return self.console.pages.error(request, status=404, title=_("Not found"), text=text)

    async def _spot(self, request: Request) -> Spot | Response:
        user = request.path_params["user"]
        if "id" not in request.path_params:
            asker = await self.console.instance_admin(request)
            return asker if isinstance(asker, Response) else above(asker, user)
        access = await self.console.member(request)
        if isinstance(access, Response):
            return access
        home = home_of(access)
        return Spot(asker=access, at=f"{home}/members/{user}", back=f"{home}/members", here="members")


def above(asker: Principal, user: str = "") -> Spot:
    """Above all organizations."""
    return Spot(asker=asker, at=f"/users/{user}" if user else "/users", back="/users", here="/users")
