"""What else an admin's list tells of its rows: invitations that got lost, changes under way, who must wait. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from instep.identity.addresses import invitation_target


class Lost(Struct, frozen=True, kw_only=True):
    """An invitation that was revoked to be sent again, and whose new one is not there.

    `invitation` is Clerk's id of the one that was revoked.
    `is_tried`: the worker still tries by itself; otherwise a person must.
    """

    operation: str
    invitation: str
    email: str
    role: str
    reason: str
    is_tried: bool
    at: int


class Around(Struct, frozen=True, kw_only=True):
    """`under_way` is how the unfinished operation of a target stands: open, or attention.

    `cooling` are addresses (lower case) whose invitation can't be sent again before a time.
    """

    lost: tuple[Lost, ...] = ()
    under_way: Mapping[str, str] = {}
    cooling: Mapping[str, int] = {}

    def of_member(self, id: str) -> str | None:
        """How the unfinished change of a member stands; one that needs a person goes first."""
        found = {self.under_way.get(f"membership:{id}"), self.under_way.get(f"standing:{id}")}
        return "attention" if "attention" in found else "open" if "open" in found else None

    def of_invitation(self, organization: str | None, email: str) -> str | None:
        """How the unfinished change of an invitation stands."""
        return self.under_way.get(invitation_target(organization, email))


NOTHING = Around()
