"""Backend API: organization memberships."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.backend_api.users import read_user_filter
from clerk_emulator.state import memberships, organizations, search, users
from clerk_emulator.state.models import Membership
from clerk_emulator.state.tables import CreationIndex
from clerk_emulator.wire import organization_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted

ORDERS = ("phone_number", "email_address", "created_at", "first_name", "last_name", "username")
MAPPING = validation.nullable(validation.mapping)
CREATE = validation.BodySchema(
    {
        "user_id": validation.text,
        "role": validation.text,
        "public_metadata": MAPPING,
        "private_metadata": MAPPING,
    },
    required=("user_id", "role"),
    strict=False,
)
UPDATE = validation.BodySchema({"role": validation.text}, required=("role",), strict=False)
ONLY_METADATA = validation.BodySchema(
    {"public_metadata": validation.mapping, "private_metadata": validation.mapping}, strict=False
)


def create(call: BackendCall) -> Any:
    """Add a user to an organization."""
    organization = organizations.get(call.instance, call.params["organization_id"])
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    created = memberships.create(call.instance, organization, user, fields["role"], fields)
    return organization_json.membership(call.instance, created)


def list_of_organization(call: BackendCall) -> Any:
    """List the memberships of an organization."""
    organization = organizations.get(call.instance, call.params["organization_id"])
    return _list_response(call, call.instance.organization_members.of(organization.id))


def list_of_user(call: BackendCall) -> Any:
    """List the memberships of a user."""
    user = users.get(call.instance, call.params["user_id"])
    return _page(call, call.instance.user_memberships.of(user.id), descending=True)


def list_of_instance(call: BackendCall) -> Any:
    """List all memberships."""
    name, descending = call.query.order(ORDERS)
    table = call.instance.memberships
    if name == "created_at":
        iterate = table.newest_first if descending else table.oldest_first
        rows: Iterable[Membership] = islice(iterate(skip=call.query.offset), call.query.limit)
    else:
        rows = call.query.page(_sorted(call, table, name, descending))
    return _to_json(call, rows, len(table))


def update(call: BackendCall) -> Any:
    """Change the role of a member."""
    role = UPDATE.read(call.body)["role"]
    return organization_json.membership(
        call.instance, memberships.change_role(call.instance, _get_membership(call), role)
    )


def delete(call: BackendCall) -> Any:
    """Delete a membership and return it as it was."""
    found = _get_membership(call)
    return organization_json.membership(call.instance, memberships.delete(call.instance, found))


def merge_metadata(call: BackendCall) -> Any:
    """Merge metadata."""
    found = _get_membership(call)
    changes = ONLY_METADATA.read(call.body)
    return organization_json.membership(call.instance, memberships.merge_metadata(call.instance, found, changes))


def _get_membership(call: BackendCall) -> Membership:
    organization = organizations.get(call.instance, call.params["organization_id"])
    return memberships.get(call.instance, organization.id, call.params["user_id"])


def _list_response(call: BackendCall, timeline: CreationIndex) -> Any:
    name, descending = call.query.order(ORDERS)
    wanted, roles = read_user_filter(call), call.query.texts("role")
    if name == "created_at" and wanted.is_open and not roles:
        return _page(call, timeline, descending=descending)
    rows = search.iter_memberships(call.instance, _iter_memberships(call, timeline), wanted)
    found = [row for row in rows if not roles or row.role in roles]
    page = call.query.page(_sorted(call, found, name, descending))
    return _to_json(call, page, len(found))


def _page(call: BackendCall, timeline: CreationIndex, *, descending: bool) -> Any:
    ids = timeline.ids(descending=descending, skip=call.query.offset)
    rows = (call.instance.memberships.find(row_id) for row_id in islice(ids, call.query.limit))
    return _to_json(call, (row for row in rows if row is not None), len(timeline))


def _iter_memberships(call: BackendCall, timeline: CreationIndex) -> Iterator[Membership]:
    rows = map(call.instance.memberships.find, timeline.ids())
    return (row for row in rows if row is not None)


def _sorted(call: BackendCall, rows: Iterable[Membership], name: str, descending: bool) -> Iterator[Membership]:
    def key(row: Membership) -> Any:
        if name == "created_at":
            return call.instance.memberships.key(row.id)
        user = call.instance.users.find(row.user_id)
        return search.user_sort_key(user, name) if user else (False, None)

    return iter_sorted(rows, key, descending=descending)


def _to_json(call: BackendCall, rows: Iterable[Membership], total: int) -> Any:
    return {"data": [organization_json.membership(call.instance, row) for row in rows], "total_count": total}


HANDLERS: dict[str, BackendHandler] = {
    "CreateOrganizationMembership": create,
    "ListOrganizationMemberships": list_of_organization,
    "UsersGetOrganizationMemberships": list_of_user,
    "InstanceGetOrganizationMemberships": list_of_instance,
    "UpdateOrganizationMembership": update,
    "DeleteOrganizationMembership": delete,
    "UpdateOrganizationMembershipMetadata": merge_metadata,
}
