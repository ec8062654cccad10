"""Deliveries as Clerk sends them, and what the inbox holds of them."""

import json
from typing import Any

import sqlalchemy as sa

from instep.core.db import Database
from instep.domain.events import VerifiedDelivery
from instep.webhooks.tables import deliveries

INSTANCE = "ins_1"


def body(type_: str, data: Any, *, instance: str | None = INSTANCE) -> bytes:
    """The body of a webhook."""
    envelope = {"type": type_, "object": "event", "data": data, "timestamp": 1, "instance_id": instance}
    return json.dumps({name: value for name, value in envelope.items() if value is not None}).encode()


def user_body(n: int = 1, *, version: int = 1, type_: str = "user.updated", **changes: Any) -> bytes:
    """What Clerk says of user `n` at `version`."""
    address = {"id": f"idn_{n}", "email_address": f"person{n}@example.com", "verification": {"status": "verified"}}
    data = {
        "id": f"user_{n}",
        "first_name": f"First{n}",
        "primary_email_address_id": f"idn_{n}",
        "email_addresses": [address],
        "created_at": 1,
        "updated_at": version,
    }
    return body(type_, data | changes)


def membership_body(
    n: int = 1, *, of: int = 1, in_: int = 1, version: int = 1, type_: str = "organizationMembership.created"
) -> bytes:
    """What Clerk says of membership `n`: user `of` in organization `in_`."""
    organization = {"id": f"org_{in_}", "name": f"Firm {in_}", "slug": f"firm-{in_}", "created_at": 1, "updated_at": 1}
    data = {
        "id": f"orgmem_{n}",
        "role": "org:member",
        "organization": organization,
        "public_user_data": {"user_id": f"user_{of}"},
        "created_at": 1,
        "updated_at": version,
    }
    return body(type_, data)


def delivery(id: str, body: bytes, *, at: int) -> VerifiedDelivery:
    """A delivery that was verified at `at`."""
    told = json.loads(body)
    return VerifiedDelivery(id=id, type=told["type"], instance_id=told.get("instance_id"), body=body, received_at=at)


def kept(db: Database) -> dict[str, dict[str, Any]]:
    """Everything in the inbox, by svix-id."""
    query = sa.select(deliveries).order_by(deliveries.c.received_at)
    return {row.id: dict(row._mapping) for row in db.read_sync(lambda conn: conn.execute(query).all())}
