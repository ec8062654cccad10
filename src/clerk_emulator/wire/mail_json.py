"""JSON of mail: for the inbox and for `email.created` and `sms.created`."""

from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import MailMessage
from clerk_emulator.wire.organization_json import accept_url

JsonObject = dict[str, Any]
SENDER = "notifications@emulator.invalid"


def inbox_message(found: MailMessage, site: str) -> JsonObject:
    """Return an email or text message for the inbox, with its link."""
    return {
        "id": found.id,
        "kind": found.kind,
        "slug": found.slug,
        "to": found.to,
        "subject": found.subject,
        "text": found.text,
        "code": found.code,
        "link": accept_url(site, found.ticket) if found.ticket else None,
        "user_id": found.user_id,
        "created_at": found.created_at,
    }


def email(instance: Instance, found: MailMessage, site: str) -> JsonObject:
    """Return the data of `email.created`."""
    link = accept_url(site, found.ticket) if found.ticket else None
    text = f"{found.text} {link}" if link else found.text
    return {
        "object": "email",
        "id": found.id,
        "slug": found.slug,
        "from_email_name": SENDER.partition("@")[0],
        "reply_to_email_name": None,
        "email_address_id": found.identification_id,
        "user_id": found.user_id,
        "to_email_address": found.to,
        "subject": found.subject,
        "body": f"<p>{text}</p>",
        "body_plain": text,
        "status": "queued",
        "data": _message_data(found, link),
        "delivered_by_clerk": True,
    }


def sms(instance: Instance, found: MailMessage, site: str) -> JsonObject:
    """Return the data of `sms.created`."""
    return {
        "object": "sms_message",
        "id": found.id,
        "slug": found.slug,
        "from_phone_number": "+15555550000",
        "to_phone_number": found.to,
        "phone_number_id": found.identification_id,
        "user_id": found.user_id,
        "message": found.text,
        "status": "queued",
        "data": _message_data(found, None),
        "delivered_by_clerk": True,
        "created_at_ms": found.created_at,
    }


def _message_data(found: MailMessage, link: str | None) -> JsonObject:
    more = {"otp_code": found.code} if found.code else {}
    return {**more, "action_url": link} if link else more
