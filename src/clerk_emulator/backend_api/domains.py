"""Backend API: organization domains."""

from collections.abc import Iterable
from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import domains, organizations
from clerk_emulator.state.models import Organization, OrganizationDomain
from clerk_emulator.wire import access_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted
from clerk_emulator.wire.user_json import deleted_object

TEXT = validation.nullable(validation.text)
FLAG = validation.nullable(validation.flag)
CREATE = validation.BodySchema(
    {"name": validation.text, "enrollment_mode": validation.text, "verified": FLAG}, required=("name",), strict=False
)
UPDATE = validation.BodySchema({"enrollment_mode": TEXT, "verified": FLAG}, strict=False)


def list_of_organization(call: BackendCall) -> Any:
    """List the domains of an organization."""
    rows = domains.list_by_organization(call.instance, _get_organization(call).id)
    return call.page(_filtered_domains(call, rows), lambda row: _to_json(call, row))


def list_of_instance(call: BackendCall) -> Any:
    """List the domains of all organizations."""
    name, descending = call.query.order(("created_at", "name"))
    owner, text = call.query.text("organization_id"), (call.query.text("query") or "").lower()
    names = call.query.texts("domains")
    rows = [
        row
        for row in _filtered_domains(call, call.instance.organization_domains)
        if (not owner or row.organization_id == owner) and (not names or row.name in names) and text in row.name
    ]
    found = iter_sorted(rows, lambda row: getattr(row, name), descending=descending)
    return call.page(found, lambda row: _to_json(call, row))


def create(call: BackendCall) -> Any:
    """Create a domain of an organization."""
    return _to_json(call, domains.create(call.instance, _get_organization(call), CREATE.read(call.body)))


def update(call: BackendCall) -> Any:
    """Update a domain."""
    return _to_json(call, domains.update(call.instance, _get_domain(call), UPDATE.read(call.body)))


def delete(call: BackendCall) -> Any:
    """Delete a domain."""
    return deleted_object("organization_domain", domains.delete(call.instance, _get_domain(call)).id)


def verify(call: BackendCall) -> Any:
    """Mark a domain as verified: the emulator queries no name server."""
    return _to_json(call, domains.update(call.instance, _get_domain(call), {"verified": True}))


def _get_organization(call: BackendCall) -> Organization:
    return organizations.get(call.instance, call.params["organization_id"])


def _get_domain(call: BackendCall) -> OrganizationDomain:
    return domains.get(call.instance, _get_organization(call), call.params["domain_id"])


def _to_json(call: BackendCall, found: OrganizationDomain) -> Any:
    return access_json.organization_domain(call.instance, found)


def _filtered_domains(call: BackendCall, rows: Iterable[OrganizationDomain]) -> list[OrganizationDomain]:
    is_verified, modes = call.query.flag("verified"), call.query.texts("enrollment_mode") or []
    included = {mode for mode in modes if not mode.startswith("-")}
    excluded = {mode[1:] for mode in modes if mode.startswith("-")}
    return [
        row
        for row in rows
        if is_verified in (None, row.is_verified)
        and (not included or row.enrollment_mode in included)
        and row.enrollment_mode not in excluded
    ]


HANDLERS: dict[str, BackendHandler] = {
    "ListOrganizationDomains": list_of_organization,
    "ListAllOrganizationDomains": list_of_instance,
    "CreateOrganizationDomain": create,
    "UpdateOrganizationDomain": update,
    "DeleteOrganizationDomain": delete,
    "VerifyOrganizationDomainOwnership": verify,
}
