"""Fills the mirror with every user of Clerk, page by page, through the mirror's own law: what the peers' run needs.

Reads CLERK_API_URL, CLERK_SECRET_KEY and INSTEP_DATABASE_URL.
"""

import os
from collections.abc import Iterator

import httpx2
import msgspec

from instep.clerk import wire
from instep.identity.events import Seen
from instep.kit.clock import now
from instep.kit.db import Conn, Db
from instep.mirror.apply import apply
from instep.mirror.ledger import open_ledger

PAGE = 500
_users = msgspec.json.Decoder(list[wire.UserWire])


def pages(client: httpx2.Client) -> Iterator[list[Seen]]:
    """All users, oldest first."""
    offset = 0
    while True:
        asked: dict[str, int | str] = {"limit": PAGE, "offset": offset, "order_by": "+created_at"}
        found = _users.decode(client.get("v1/users", params=asked).raise_for_status().content)
        if not found:
            return
        yield [wire.to_user(it) for it in found]
        offset += len(found)


def take(conn: Conn, news: list[Seen]) -> None:
    """Decide and write one page."""
    ledger = open_ledger(conn, news)
    for item in news:
        ledger.take(item, is_read=True)
    apply(conn, ledger, now=now())


def main() -> None:
    """One page after the other."""
    db = Db(os.environ["INSTEP_DATABASE_URL"])
    headers = {"Authorization": f"Bearer {os.environ['CLERK_SECRET_KEY']}"}
    with httpx2.Client(base_url=os.environ["CLERK_API_URL"], headers=headers, timeout=30) as client:
        for page in pages(client):
            db.writing(take, page)
    db.close()


if __name__ == "__main__":
    main()
