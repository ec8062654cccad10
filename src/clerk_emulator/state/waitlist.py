"""Waitlist entries: add, invite, reject and remove."""

from typing import Any

from clerk_emulator.state import emails, invitations, mailer
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import WaitlistEntry


def get(instance: Instance, entry_id: str) -> WaitlistEntry:
    """Return an entry, or raise an ApiError."""
    found = instance.waitlist.find(entry_id)
    if found is None:
        raise not_found_error("waitlist entry", entry_id)
    return found


def add(instance: Instance, drafts: list[dict[str, Any]]) -> list[WaitlistEntry]:
    """Add addresses to the waitlist; an existing entry is returned as it is."""
    addresses = [emails.parse_address(draft["email_address"]) for draft in drafts]
    return [
        _find(instance, address) or _add(instance, address, sends_email=draft.get("notify") is not False)
        for draft, address in zip(drafts, addresses, strict=True)
    ]


def invite(instance: Instance, entry: WaitlistEntry, *, ignore_existing: bool) -> WaitlistEntry:
    """Invite an entry."""
    _require_pending(entry, "invited", "completed")
    draft = {"email_address": entry.email_address, "ignore_existing": ignore_existing}
    entry.invitation_id = invitations.create_all(instance, [draft])[0].id
    entry.status = "invited"
    instance.touch_and_publish("waitlistEntry.updated", entry)
    return entry


def reject(instance: Instance, entry: WaitlistEntry) -> WaitlistEntry:
    """Reject an entry."""
    _require_pending(entry, "rejected", "completed")
    entry.status = "rejected"
    instance.touch_and_publish("waitlistEntry.updated", entry)
    return entry


def remove(instance: Instance, entry: WaitlistEntry) -> None:
    """Delete an entry."""
    _require_pending(entry, "invited", "completed")
    instance.waitlist.remove(entry.id)


def _find(instance: Instance, address: str) -> WaitlistEntry | None:
    return next((row for row in instance.waitlist if row.email_address == address), None)


def _add(instance: Instance, address: str, *, sends_email: bool) -> WaitlistEntry:
    now = instance.now
    entry = WaitlistEntry(id=instance.ids.new("wle"), email_address=address, created_at=now, updated_at=now)
    instance.waitlist.add(entry)
    if sends_email:
        mailer.send(instance, address, "waitlist_confirmation", "You are on the waitlist", "You are on the waitlist.")
    instance.publish("waitlistEntry.created", entry)
    return entry


def _require_pending(entry: WaitlistEntry, *over: str) -> None:
    if entry.status in over:
        code = f"waitlist_entry_already_{entry.status}"
        raise ApiError(409, ErrorDetail(code, entry.status, f"This entry is {entry.status}."))
