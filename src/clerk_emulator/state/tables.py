"""In-memory tables with records ordered by creation, and indexes by owner."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from typing import Generic, Protocol, TypeVar

CreationKey = tuple[int, int, str]  # created_at, number, id


class TableRow(Protocol):
    """The fields that every row of a table has."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> int: ...


R = TypeVar("R", bound=TableRow)


class CreationIndex:
    """Ids in order of creation: pages by offset or after an id, in both directions."""

    def __init__(self) -> None:
        self._order: list[CreationKey] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, key: CreationKey) -> None:
        """Insert an id; the newest is cheapest."""
        if not self._order or self._order[-1] < key:
            self._order.append(key)
        else:
            insort(self._order, key)

    def remove(self, key: CreationKey) -> None:
        """Remove an id."""
        position = bisect_left(self._order, key)
        if position < len(self._order) and self._order[position] == key:
            del self._order[position]

    def count_created_after(self, time: int) -> int:
        """Return the number of ids after a time."""
        return len(self._order) - bisect_left(self._order, (time + 1, 0, ""))

    def ids(self, *, descending: bool = True, after: CreationKey | None = None, skip: int = 0) -> Iterator[str]:
        """Iterate over the ids from the start, after a key, or with an offset."""
        if descending:
            last = len(self._order) if after is None else bisect_left(self._order, after)
            positions = range(last - 1 - skip, -1, -1)
        else:
            first = 0 if after is None else bisect_right(self._order, after)
            positions = range(first + skip, len(self._order))
        return (self._order[position][2] for position in positions)


class Table(Generic[R]):
    """All rows of a kind."""

    def __init__(self) -> None:
        self._rows: dict[str, R] = {}
        self._keys: dict[str, CreationKey] = {}
        self._timeline = CreationIndex()
        self._number = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[R]:
        return (self._rows[key] for key in self._timeline.ids(descending=False))

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._rows

    def find(self, row_id: str | None) -> R | None:
        """Return the row, or None."""
        return self._rows.get(row_id) if row_id is not None else None

    def add(self, row: R) -> CreationKey:
        """Insert a row."""
        self._number += 1
        key = (row.created_at, self._number, row.id)
        self._rows[row.id] = row
        self._keys[row.id] = key
        self._timeline.add(key)
        return key

    def remove(self, row_id: str) -> CreationKey:
        """Delete a row."""
        del self._rows[row_id]
        key = self._keys.pop(row_id)
        self._timeline.remove(key)
        return key

    def reposition(self, row: R) -> None:
        """Update the position of a row whose `created_at` was changed."""
        old = self._keys[row.id]
        self._timeline.remove(old)
        self._keys[row.id] = key = (row.created_at, old[1], row.id)
        self._timeline.add(key)

    def key(self, row_id: str) -> CreationKey | None:
        """Return the sort key of a row in order of creation."""
        return self._keys.get(row_id)

    def newest_first(self, *, after: CreationKey | None = None, skip: int = 0) -> Iterator[R]:
        """Iterate over the rows from the newest."""
        return map(self._rows.__getitem__, self._timeline.ids(after=after, skip=skip))

    def oldest_first(self, *, after: CreationKey | None = None, skip: int = 0) -> Iterator[R]:
        """Iterate over the rows from the oldest."""
        return map(self._rows.__getitem__, self._timeline.ids(descending=False, after=after, skip=skip))

    def page(self, offset: int, limit: int) -> list[R]:
        """Return a page, newest first."""
        return list(islice(self.newest_first(skip=offset), limit))


class OwnerIndex:
    """Creation indexes by owner: the memberships of each organization, the sessions of each user, and so on."""

    def __init__(self) -> None:
        self._groups: dict[str, CreationIndex] = {}

    def of(self, owner: str) -> CreationIndex:
        """Return the creation index of an owner, empty if there is nothing."""
        return self._groups.get(owner) or CreationIndex()

    def add(self, owner: str, key: CreationKey) -> None:
        """Add a row of an owner."""
        self._groups.setdefault(owner, CreationIndex()).add(key)

    def remove(self, owner: str, key: CreationKey) -> None:
        """Remove a row of an owner."""
        group = self._groups.get(owner)
        if group is not None:
            group.remove(key)
            if not len(group):
                del self._groups[owner]
