"""The floors of the sync bench: `pages` reads and parses every page and does nothing; `rows` writes bare rows."""

import asyncio
import json
import os
import sqlite3
import sys

import httpx2
import msgspec
import psycopg

from bench import sync_clerk
from instep.clerk import parsing

PAGE = 500
ROWS = 10_000
COLUMNS = "id, clerk_id, email, first_name, last_name, username, public_metadata, version, digest"


async def pages() -> None:
    """Users by cursor, memberships by offset, one page after the other; users as they are read for the mirror."""
    users = msgspec.json.Decoder(list[parsing.ClerkUserPayload])
    headers = {"Authorization": f"Bearer {os.environ['CLERK_SECRET_KEY']}"}
    async with httpx2.AsyncClient(base_url=os.environ["CLERK_API_URL"], timeout=30, headers=headers) as client:
        after = ""
        while True:
            asked: dict[str, str | int] = {"limit": PAGE, "order_by": "+created_at"}
            if after:
                asked["starting_after"] = after
            found = users.decode((await client.get("/v1/users", params=asked)).content)
            if len(found) < PAGE:
                break
            after = found[-1].id
        offset = 0
        while True:
            asked = {"limit": PAGE, "offset": offset}
            answer = (await client.get("/v1/organization_memberships", params=asked)).content
            if len(msgspec.json.decode(answer, type=_Page).data) < PAGE:
                break
            offset += PAGE


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]


def rows(count: int) -> None:
    """The users alone, into a table with nothing but a key."""
    url = os.environ["INSTEP_DATABASE_URL"]
    metadata = json.dumps({"department": "engineering", "plan": "team"})

    def row(n: int) -> tuple[object, ...]:
        id = f"{n:027d}"
        at = sync_clerk.T0 + n
        return (f"usr_{id}", f"user_{id}", f"m{id}@example.com", "First", "Last", f"m{id}", metadata, at, "d" * 24)

    if url.startswith("sqlite"):
        with sqlite3.connect(f"{url.removeprefix('sqlite:///')}.floor") as conn:
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute(f"CREATE TABLE floor ({COLUMNS.replace('id,', 'id TEXT PRIMARY KEY,', 1)})")
            marks = ", ".join("?" * 9)
            for start in range(0, count, ROWS):
                some = [row(n) for n in range(start, min(start + ROWS, count))]
                conn.executemany(f"INSERT INTO floor VALUES ({marks})", some)
                conn.commit()
        return
    typed = "id text PRIMARY KEY, clerk_id text, email text, first_name text, last_name text, username text, "
    typed += "public_metadata jsonb, version bigint, digest text"
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as pg:
        pg.execute(f"CREATE TABLE floor ({typed})")
        with pg.cursor().copy("COPY floor FROM STDIN") as copy:
            for n in range(count):
                copy.write_row(row(n))
        pg.commit()
        pg.execute("DROP TABLE floor")


if __name__ == "__main__":
    if sys.argv[1] == "pages":
        asyncio.run(pages())
    else:
        rows(int(os.environ["SYNC_USERS"]))
