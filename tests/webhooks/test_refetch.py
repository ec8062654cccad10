"""First sign-in: who is missing is made, and who was known without a Clerk account is linked by a verified address."""

import pytest
import sqlalchemy as sa

from instep.core.db import Conn
from instep.domain.models import ClerkId
from instep.mirror import user_repository
from instep.mirror.tables import users
from instep.mirror.user_repository import UserRow, find_user
from instep.webhooks.refetch import SignedInUserFetcher
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
MAYA = "maya@example.com"


def arrival(firm: Firm) -> SignedInUserFetcher:
    services = firm.services
    return SignedInUserFetcher(
        db=services.db, clerk=services.clerk, on_change=lambda _touched: None, clock=services.clock
    )


async def known_here(firm: Firm, email: str = MAYA) -> str:
    """Somebody without a Clerk account; our id of them."""
    id = "usr_of_maya"

    def create(conn: Conn) -> None:
        user_repository.create_local_user(
            conn, id, {"email": email, "first_name": "Maya", "attributes": {"floor": 3}}, now=1
        )

    await firm.services.db.write(create)
    return id


async def in_clerk(firm: Firm, status: str = "verified") -> ClerkId:
    """The same address at Clerk, unknown to the mirror."""
    body = {"email_address": [MAYA.upper()], "email_address_identification_status": [status]}
    async with firm.clerk() as clerk:
        made = await clerk.post("/v1/users", json=body | {"skip_password_requirement": True, "first_name": "Mia"})
    return ClerkId(made.json()["id"])


async def people_here(firm: Firm) -> list[UserRow]:
    ids = await firm.services.db.read(lambda conn: list(conn.execute(sa.select(users.c.id)).scalars()))
    found = [await firm.services.db.read(find_user, id) for id in ids]
    return [it for it in found if it is not None]


async def test_who_is_missing_is_made(firm: Firm) -> None:
    id = await in_clerk(firm)
    await arrival(firm).fetch(id)
    assert [(it.clerk_id, it.email) for it in await people_here(firm)] == [(id, MAYA)]


async def test_who_has_the_same_verified_address_and_no_clerk_account_is_linked(firm: Firm) -> None:
    known = await known_here(firm)
    id = await in_clerk(firm)
    await arrival(firm).fetch(id)
    (person,) = await people_here(firm)
    assert (person.id, person.clerk_id, person.first_name) == (known, id, "Mia")
    assert person.attributes == {"floor": 3}
    await firm.settle()  # the webhook of the same user comes later, and changes nothing
    assert [it.id for it in await people_here(firm)] == [known]


async def test_an_address_that_is_not_verified_links_nobody(firm: Firm) -> None:
    await known_here(firm)
    await arrival(firm).fetch(await in_clerk(firm, "reserved"))
    assert len(await people_here(firm)) == 2


async def test_someone_deleted_is_not_linked(firm: Firm) -> None:
    known = await known_here(firm)
    await firm.services.db.write(user_repository.soft_delete_user, known, now=2)
    await arrival(firm).fetch(await in_clerk(firm))
    assert len(await people_here(firm)) == 2
