"""Emails and text messages that Clerk would send; stored in the instance, never sent."""

import re
from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import MailMessage

MAX_MESSAGES = 10_000
TEST_CODE = "424242"
TEST_NUMBER = re.compile(r"\+1\d{3}55501\d\d")


def is_test_recipient(to: str) -> bool:
    """Return whether this is a test address or number, to which nothing is sent and whose code is fixed."""
    return "+clerk_test" in to or bool(TEST_NUMBER.fullmatch(to))


def send(instance: Instance, to: str, slug: str, subject: str, text: str, **more: Any) -> None:
    """Store a mail, and publish the event if the settings say so."""
    if is_test_recipient(to):
        return
    now = instance.now
    kind = "sms" if to.startswith("+") else "email"
    id_ = instance.ids.new("sms" if kind == "sms" else "ema")
    mail = MailMessage(
        id=id_, kind=kind, slug=slug, to=to, subject=subject, text=text, created_at=now, updated_at=now, **more
    )
    instance.mail.add(mail)
    if len(instance.mail) > MAX_MESSAGES:
        instance.mail.remove(next(iter(instance.mail)).id)
    if instance.settings.mail_events:
        instance.publish(f"{kind}.created", mail)


def send_code(instance: Instance, to: str, user_id: str | None, identification_id: str) -> str:
    """Send a code and return it: a random one, or the fixed one of test recipients."""
    if is_test_recipient(to):
        return TEST_CODE
    code = instance.ids.code()
    subject = f"{code} is your verification code"
    text = f"Your verification code is {code}."
    about = {"code": code, "user_id": user_id, "identification_id": identification_id}
    send(instance, to, "verification_code", subject, text, **about)
    return code
