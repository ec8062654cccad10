"""Domains of organizations: list, create, change, verify, delete."""

from collections.abc import Iterable
from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import domains, organizations
from clerk_emulator.state.kinds import OrganizationDomain
from clerk_emulator.state.model import Organization
from clerk_emulator.wire import access, forms
from clerk_emulator.wire.people import deleted
from clerk_emulator.wire.queries import ordered

TEXT = forms.nullable(forms.text)
FLAG = forms.nullable(forms.flag)
CREATE = forms.Form(
    {"name": forms.text, "enrollment_mode": forms.text, "verified": FLAG}, required=("name",), strict=False
)
UPDATE = forms.Form({"enrollment_mode": TEXT, "verified": FLAG}, strict=False)


def list_of_organization(call: Call) -> Any:
    """Answer a page of the domains of an organization."""
    rows = domains.of_organization(call.instance, _organization(call).id)
    return call.page(_fitting(call, rows), lambda row: _shape(call, row))


def list_of_instance(call: Call) -> Any:
    """Answer a page of all domains of organizations."""
    name, descending = call.query.order(("created_at", "name"))
    owner, text = call.query.text("organization_id"), (call.query.text("query") or "").lower()
    names = call.query.texts("domains")
    rows = [
        row
        for row in _fitting(call, call.instance.organization_domains)
        if (not owner or row.organization_id == owner) and (not names or row.name in names) and text in row.name
    ]
    found = ordered(rows, lambda row: getattr(row, name), descending=descending)
    return call.page(found, lambda row: _shape(call, row))


def create(call: Call) -> Any:
    """Give an organization a domain."""
    return _shape(call, domains.create(call.instance, _organization(call), CREATE.read(call.body)))


def update(call: Call) -> Any:
    """Change a domain."""
    return _shape(call, domains.update(call.instance, _domain(call), UPDATE.read(call.body)))


def delete(call: Call) -> Any:
    """Take a domain away."""
    return deleted("organization_domain", domains.delete(call.instance, _domain(call)).id)


def verify(call: Call) -> Any:
    """Take a domain for verified: nobody asks the name servers here."""
    return _shape(call, domains.update(call.instance, _domain(call), {"verified": True}))


def _organization(call: Call) -> Organization:
    return organizations.get(call.instance, call.params["organization_id"])


def _domain(call: Call) -> OrganizationDomain:
    return domains.get(call.instance, _organization(call), call.params["domain_id"])


def _shape(call: Call, found: OrganizationDomain) -> Any:
    return access.organization_domain(call.instance, found)


def _fitting(call: Call, rows: Iterable[OrganizationDomain]) -> list[OrganizationDomain]:
    is_verified, modes = call.query.flag("verified"), call.query.texts("enrollment_mode") or []
    wanted = {mode for mode in modes if not mode.startswith("-")}
    unwanted = {mode[1:] for mode in modes if mode.startswith("-")}
    return [
        row
        for row in rows
        if is_verified in (None, row.is_verified)
        and (not wanted or row.enrollment_mode in wanted)
        and row.enrollment_mode not in unwanted
    ]


HANDLERS: dict[str, Handler] = {
    "ListOrganizationDomains": list_of_organization,
    "ListAllOrganizationDomains": list_of_instance,
    "CreateOrganizationDomain": create,
    "UpdateOrganizationDomain": update,
    "DeleteOrganizationDomain": delete,
    "VerifyOrganizationDomainOwnership": verify,
}
