"""Actions of the control pages: what the form buttons do."""

from collections.abc import Callable

from clerk_emulator.control import directory_handlers, http
from clerk_emulator.control.service import ControlService
from clerk_emulator.state import emails, organization_invitations, organizations, users
from clerk_emulator.state.errors import ApiError
from clerk_emulator.state.models import OrganizationInvitation

FormValues = dict[str, str]


def error_message(wrong: Exception) -> str:
    """Return what to tell the person."""
    if isinstance(wrong, http.NotFoundError):
        return f"There is no such {wrong}."
    return wrong.problems[0].long_message if isinstance(wrong, ApiError) else str(wrong)


def add_user(desk: ControlService, form: FormValues) -> None:
    """Add a user with a verified address."""
    draft = {name: form.get(name, "").strip() or None for name in ("first_name", "last_name", "password")}
    address = form.get("email_address", "")
    users.create(desk.instance, {**draft, "email_address": [address], "skip_password_checks": True})


def ban_user(desk: ControlService, form: FormValues) -> None:
    """Ban a user."""
    users.set_banned(desk.instance, users.get(desk.instance, form.get("id", "")), True)


def unban_user(desk: ControlService, form: FormValues) -> None:
    """Lift a ban."""
    users.set_banned(desk.instance, users.get(desk.instance, form.get("id", "")), False)


def deprovision_user(desk: ControlService, form: FormValues) -> None:
    """Deactivate a user by a directory."""
    directory_handlers.set_user_active(desk, form.get("id", ""), False)


def reprovision_user(desk: ControlService, form: FormValues) -> None:
    """Activate a user again by a directory."""
    directory_handlers.set_user_active(desk, form.get("id", ""), True)


def delete_user(desk: ControlService, form: FormValues) -> None:
    """Delete a user."""
    users.delete(desk.instance, users.get(desk.instance, form.get("id", "")))


def add_organization(desk: ControlService, form: FormValues) -> None:
    """Add an organization with its administrator."""
    address = form.get("created_by", "").strip()
    creator = emails.find_owner(desk.instance, address) if address else None
    if address and creator is None:
        raise ValueError(f"Nobody has the address {address}.")
    draft = {"name": form.get("name", ""), "created_by": creator.id if creator else None}
    organizations.create(desk.instance, draft)


def delete_organization(desk: ControlService, form: FormValues) -> None:
    """Delete an organization."""
    organizations.delete(desk.instance, organizations.get(desk.instance, form.get("id", "")))


def create_invitation(desk: ControlService, form: FormValues) -> None:
    """Invite somebody to an organization."""
    organization = organizations.get(desk.instance, form.get("organization", "").strip())
    default = desk.instance.settings.default_role
    draft = {"email_address": form.get("email_address", ""), "role": form.get("role", "").strip() or default}
    organization_invitations.create(desk.instance, organization, draft)


def accept_invitation(desk: ControlService, form: FormValues) -> None:
    """Accept an invitation in the name of the one who is invited."""
    organization_invitations.accept(desk.instance, _find_invitation(desk, form), {})


def revoke_invitation(desk: ControlService, form: FormValues) -> None:
    """Take an invitation back."""
    found = _find_invitation(desk, form)
    organization = organizations.get(desk.instance, found.organization_id)
    organization_invitations.revoke(desk.instance, organization, found, None)


def replay_delivery(desk: ControlService, form: FormValues) -> None:
    """Send the message of a delivery once more."""
    if desk.office.replay(form.get("id", "")) is None:
        raise LookupError("There is no such delivery, or its endpoint is gone.")


def add_endpoint(desk: ControlService, form: FormValues) -> None:
    """Add an endpoint; an empty secret is made up."""
    desk.office.add_endpoint({"url": form.get("url", "").strip(), "secret": form.get("secret", "").strip() or None})


def remove_endpoint(desk: ControlService, form: FormValues) -> None:
    """Remove an endpoint."""
    if not desk.office.remove_endpoint(form.get("id", "")):
        raise LookupError("There is no such endpoint.")


def send_example(desk: ControlService, form: FormValues) -> None:
    """Send the example of an event to an endpoint."""
    if desk.office.send_example(form.get("id", ""), form.get("type", "")) is None:
        raise LookupError("There is no such endpoint.")


def add_fault(desk: ControlService, form: FormValues) -> None:
    """Put a fault in the way of an operation or an event."""
    target, count = form.get("target", "").strip(), form.get("count", "").strip()
    wish: dict[str, object] = {"count": int(count)} if count else {}
    if "." in target:
        wish |= {"event": target, "do": form.get("do") or "drop"}
    else:
        wish |= {"operation": target, "status": int(form.get("status") or 500)}
    desk.faults.add(wish)


def remove_fault(desk: ControlService, form: FormValues) -> None:
    """Take a fault away."""
    desk.faults.remove(form.get("id", ""))


def advance_clock(desk: ControlService, form: FormValues) -> None:
    """Move the clock on."""
    desk.instance.clock.advance(hours=float(form.get("hours") or 0))


def _find_invitation(desk: ControlService, form: FormValues) -> OrganizationInvitation:
    found = desk.instance.organization_invitations.find(form.get("id", ""))
    if found is None:
        raise LookupError("There is no such invitation.")
    return found


ACTIONS: dict[str, Callable[[ControlService, FormValues], None]] = {
    "add-user": add_user,
    "ban": ban_user,
    "unban": unban_user,
    "deprovision": deprovision_user,
    "reprovision": reprovision_user,
    "delete-user": delete_user,
    "add-organization": add_organization,
    "delete-organization": delete_organization,
    "invite": create_invitation,
    "accept": accept_invitation,
    "revoke": revoke_invitation,
    "replay": replay_delivery,
    "add-endpoint": add_endpoint,
    "remove-endpoint": remove_endpoint,
    "send-example": send_example,
    "add-fault": add_fault,
    "remove-fault": remove_fault,
    "advance": advance_clock,
}
