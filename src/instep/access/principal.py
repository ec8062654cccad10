"""Who is asking, and what they may do in one organization. Pure."""

from typing import Literal

from msgspec import Struct

from instep.identity.model import ADMIN


class Principal(Struct, frozen=True, kw_only=True):
    """Who a request comes from: a person signed in through Clerk, or the holder of the break-glass key.

    `is_instance_admin` may see and change every organization.
    """

    kind: Literal["person", "break_glass"]
    name: str
    email: str | None = None
    image_url: str | None = None
    user_id: str | None = None
    clerk_user_id: str | None = None
    is_instance_admin: bool = False


class Access(Struct, frozen=True, kw_only=True):
    """What a principal may do in one organization they may see."""

    principal: Principal
    organization_id: str
    organization_clerk_id: str | None
    organization_name: str
    organization_slug: str | None
    role: str | None

    @property
    def may_act(self) -> bool:
        """Whether they may change people here; otherwise they only read."""
        return self.principal.is_instance_admin or self.role == ADMIN
