"""What sync needs of the provider, and of those who watch."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from instep.identity.events import Found, Seen
from instep.identity.model import Key, Kind
from instep.identity.rules import AskAgain
from instep.identity.whole import Cursor, Page, Window
from instep.sync.plan import Finding


class Everything(Protocol):
    """Reading everything. Each method raises ProviderDown or ProviderRefused; see instep.clerk.walk."""

    async def find_instance(self) -> str | None:
        """The id of the instance; None where it is not told."""

    async def count(self, kind: Kind) -> int:
        """How many there are now."""

    async def count_within(self, window: Window) -> int | None:
        """How many a window has now; None where nobody counts that."""

    async def windows(self, kind: Kind) -> list[Window]:
        """The windows of a kind, which together are everything."""

    def pages(self, window: Window, cursor: Cursor | None = None) -> AsyncIterator[Page]:
        """The pages of a window, from the beginning or from where a walk stopped."""

    async def list_changed(self, *, offset: int) -> Sequence[Seen]:
        """A page of users, the last changed first."""

    async def find_absent(self, asks: Sequence[AskAgain]) -> set[Key]:
        """Those of which the provider says for certain, and in more than one way where it can, that it has none."""


class Writes(Protocol):
    """Reading single things, and writing to the provider what belongs to the database."""

    async def look(self, asks: Sequence[AskAgain]) -> list[Found]:
        """See identity.ports.Directory.look."""

    async def write(self, finding: Finding) -> Seen:
        """Write the database's values of a row to the provider; gives the thing as it is there now."""


class Progress(Struct, frozen=True):
    """How far a run is: `done` of `total` things of a kind; `total` None where nobody knows."""

    kind: Kind
    done: int
    total: int | None


Told = Callable[[Progress], None]
