"""Actions of the control pages: what the form buttons do."""

from collections.abc import Callable

from clerk_emulator.control import directory_handlers, http
from clerk_emulator.control.service import ControlService
from clerk_emulator.state import emails, organization_invitations, organizations, users
from clerk_emulator.state.errors import ApiError
from clerk_emulator.state.models import OrganizationInvitation

FormValues = dict[str, str]


def error_message(error: Exception) -> str:
    """Return the message for the person who submitted the form."""
    if isinstance(error, http.NotFoundError):
        return f"There is no such {error}."
    return error.problems[0].long_message if isinstance(error, ApiError) else str(error)


def add_user(control: ControlService, form: FormValues) -> None:
    """Create a user with a verified address."""
    draft = {name: form.get(name, "").strip() or None for name in ("first_name", "last_name", "password")}
    address = form.get("email_address", "")
    users.create(control.instance, {**draft, "email_address": [address], "skip_password_checks": True})


def ban_user(control: ControlService, form: FormValues) -> None:
    """Ban a user."""
    users.set_banned(control.instance, users.get(control.instance, form.get("id", "")), True)


def unban_user(control: ControlService, form: FormValues) -> None:
    """Unban a user."""
    users.set_banned(control.instance, users.get(control.instance, form.get("id", "")), False)


def deprovision_user(control: ControlService, form: FormValues) -> None:
    """Deactivate a user through a directory."""
    directory_handlers.set_user_active(control, form.get("id", ""), False)


def reprovision_user(control: ControlService, form: FormValues) -> None:
    """Reactivate a user through a directory."""
    directory_handlers.set_user_active(control, form.get("id", ""), True)


def delete_user(control: ControlService, form: FormValues) -> None:
    """Delete a user."""
    users.delete(control.instance, users.get(control.instance, form.get("id", "")))


def add_organization(control: ControlService, form: FormValues) -> None:
    """Create an organization with its administrator."""
    address = form.get("created_by", "").strip()
    creator = emails.find_owner(control.instance, address) if address else None
    if address and creator is None:
        raise ValueError(f"No user has the address {address}.")
    draft = {"name": form.get("name", ""), "created_by": creator.id if creator else None}
    organizations.create(control.instance, draft)


def delete_organization(control: ControlService, form: FormValues) -> None:
    """Delete an organization."""
    organizations.delete(control.instance, organizations.get(control.instance, form.get("id", "")))


def create_invitation(control: ControlService, form: FormValues) -> None:
    """Invite a person to an organization."""
    organization = organizations.get(control.instance, form.get("organization", "").strip())
    default = control.instance.settings.default_role
    draft = {"email_address": form.get("email_address", ""), "role": form.get("role", "").strip() or default}
    organization_invitations.create(control.instance, organization, draft)


def accept_invitation(control: ControlService, form: FormValues) -> None:
    """Accept an invitation on behalf of the invitee."""
    organization_invitations.accept(control.instance, _find_invitation(control, form), {})


def revoke_invitation(control: ControlService, form: FormValues) -> None:
    """Revoke an invitation."""
    found = _find_invitation(control, form)
    organization = organizations.get(control.instance, found.organization_id)
    organization_invitations.revoke(control.instance, organization, found, None)


def replay_delivery(control: ControlService, form: FormValues) -> None:
    """Send the message of a delivery again."""
    if control.webhook_admin.replay(form.get("id", "")) is None:
        raise LookupError("There is no such delivery, or its endpoint was deleted.")


def add_endpoint(control: ControlService, form: FormValues) -> None:
    """Create an endpoint; an empty secret is generated."""
    control.webhook_admin.add_endpoint(
        {"url": form.get("url", "").strip(), "secret": form.get("secret", "").strip() or None}
    )


def remove_endpoint(control: ControlService, form: FormValues) -> None:
    """Delete an endpoint."""
    if not control.webhook_admin.remove_endpoint(form.get("id", "")):
        raise LookupError("There is no such endpoint.")


def send_example(control: ControlService, form: FormValues) -> None:
    """Send the example of an event to an endpoint."""
    if control.webhook_admin.send_example(form.get("id", ""), form.get("type", "")) is None:
        raise LookupError("There is no such endpoint.")


def add_fault(control: ControlService, form: FormValues) -> None:
    """Create a fault for an operation or an event."""
    target, count = form.get("target", "").strip(), form.get("count", "").strip()
    fault: dict[str, object] = {"count": int(count)} if count else {}
    if "." in target:
        fault |= {"event": target, "do": form.get("do") or "drop"}
    else:
        fault |= {"operation": target, "status": int(form.get("status") or 500)}
    control.faults.add(fault)


def remove_fault(control: ControlService, form: FormValues) -> None:
    """Delete a fault."""
    control.faults.remove(form.get("id", ""))


def advance_clock(control: ControlService, form: FormValues) -> None:
    """Advance the clock."""
    control.instance.clock.advance(hours=float(form.get("hours") or 0))


def _find_invitation(control: ControlService, form: FormValues) -> OrganizationInvitation:
    found = control.instance.organization_invitations.find(form.get("id", ""))
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
