"""What a person does on the pages: what a dashboard would do, and what no dashboard can."""

from collections.abc import Callable

from clerk_emulator.control import door, provisioning
from clerk_emulator.control.desk import Desk
from clerk_emulator.state import emails, organization_invitations, organizations, users
from clerk_emulator.state.model import OrganizationInvitation
from clerk_emulator.state.refusals import Refused

Form = dict[str, str]


def words(wrong: Exception) -> str:
    """Return what to tell the person."""
    if isinstance(wrong, door.NotThere):
        return f"There is no such {wrong}."
    return wrong.problems[0].long_message if isinstance(wrong, Refused) else str(wrong)


def add_user(desk: Desk, form: Form) -> None:
    """Add a user with a verified address."""
    draft = {name: form.get(name, "").strip() or None for name in ("first_name", "last_name", "password")}
    address = form.get("email_address", "")
    users.create(desk.instance, {**draft, "email_address": [address], "skip_password_checks": True})


def ban(desk: Desk, form: Form) -> None:
    """Ban a user."""
    users.set_banned(desk.instance, users.get(desk.instance, form.get("id", "")), True)


def unban(desk: Desk, form: Form) -> None:
    """Lift a ban."""
    users.set_banned(desk.instance, users.get(desk.instance, form.get("id", "")), False)


def deprovision(desk: Desk, form: Form) -> None:
    """Deactivate a user by a directory."""
    provisioning.set_active(desk, form.get("id", ""), False)


def reprovision(desk: Desk, form: Form) -> None:
    """Activate a user again by a directory."""
    provisioning.set_active(desk, form.get("id", ""), True)


def delete_user(desk: Desk, form: Form) -> None:
    """Delete a user."""
    users.delete(desk.instance, users.get(desk.instance, form.get("id", "")))


def add_organization(desk: Desk, form: Form) -> None:
    """Add an organization with its administrator."""
    address = form.get("created_by", "").strip()
    creator = emails.find_owner(desk.instance, address) if address else None
    if address and creator is None:
        raise ValueError(f"Nobody has the address {address}.")
    draft = {"name": form.get("name", ""), "created_by": creator.id if creator else None}
    organizations.create(desk.instance, draft)


def delete_organization(desk: Desk, form: Form) -> None:
    """Delete an organization."""
    organizations.delete(desk.instance, organizations.get(desk.instance, form.get("id", "")))


def invite(desk: Desk, form: Form) -> None:
    """Invite somebody to an organization."""
    organization = organizations.get(desk.instance, form.get("organization", "").strip())
    default = desk.instance.settings.default_role
    draft = {"email_address": form.get("email_address", ""), "role": form.get("role", "").strip() or default}
    organization_invitations.create(desk.instance, organization, draft)


def accept(desk: Desk, form: Form) -> None:
    """Accept an invitation in the name of the one who is invited."""
    organization_invitations.accept(desk.instance, _invitation(desk, form), {})


def revoke(desk: Desk, form: Form) -> None:
    """Take an invitation back."""
    found = _invitation(desk, form)
    organization = organizations.get(desk.instance, found.organization_id)
    organization_invitations.revoke(desk.instance, organization, found, None)


def replay(desk: Desk, form: Form) -> None:
    """Send the message of a delivery once more."""
    if desk.office.replay(form.get("id", "")) is None:
        raise LookupError("There is no such delivery, or its endpoint is gone.")


def add_endpoint(desk: Desk, form: Form) -> None:
    """Add an endpoint; an empty secret is made up."""
    desk.office.add_endpoint({"url": form.get("url", "").strip(), "secret": form.get("secret", "").strip() or None})


def remove_endpoint(desk: Desk, form: Form) -> None:
    """Remove an endpoint."""
    if not desk.office.remove_endpoint(form.get("id", "")):
        raise LookupError("There is no such endpoint.")


def send_example(desk: Desk, form: Form) -> None:
    """Send the example of an event to an endpoint."""
    if desk.office.send_example(form.get("id", ""), form.get("type", "")) is None:
        raise LookupError("There is no such endpoint.")


def add_fault(desk: Desk, form: Form) -> None:
    """Put a fault in the way of an operation or an event."""
    target, count = form.get("target", "").strip(), form.get("count", "").strip()
    wish: dict[str, object] = {"count": int(count)} if count else {}
    if "." in target:
        wish |= {"event": target, "do": form.get("do") or "drop"}
    else:
        wish |= {"operation": target, "status": int(form.get("status") or 500)}
    desk.faults.add(wish)


def remove_fault(desk: Desk, form: Form) -> None:
    """Take a fault away."""
    desk.faults.remove(form.get("id", ""))


def advance(desk: Desk, form: Form) -> None:
    """Move the clock on."""
    desk.instance.clock.advance(hours=float(form.get("hours") or 0))


def _invitation(desk: Desk, form: Form) -> OrganizationInvitation:
    found = desk.instance.organization_invitations.find(form.get("id", ""))
    if found is None:
        raise LookupError("There is no such invitation.")
    return found


DEEDS: dict[str, Callable[[Desk, Form], None]] = {
    "add-user": add_user,
    "ban": ban,
    "unban": unban,
    "deprovision": deprovision,
    "reprovision": reprovision,
    "delete-user": delete_user,
    "add-organization": add_organization,
    "delete-organization": delete_organization,
    "invite": invite,
    "accept": accept,
    "revoke": revoke,
    "replay": replay,
    "add-endpoint": add_endpoint,
    "remove-endpoint": remove_endpoint,
    "send-example": send_example,
    "add-fault": add_fault,
    "remove-fault": remove_fault,
    "advance": advance,
}
