"""Memberships: of an organization, of a user, of the whole instance."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.routes.users import criteria
from clerk_emulator.state import memberships, organizations, search, users
from clerk_emulator.state.model import Membership
from clerk_emulator.state.tables import Timeline
from clerk_emulator.wire import forms
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire.queries import ordered

ORDERS = ("phone_number", "email_address", "created_at", "first_name", "last_name", "username")
MAPPING = forms.nullable(forms.mapping)
CREATE = forms.Form(
    {
        "user_id": forms.text,
        "role": forms.text,
        "public_metadata": MAPPING,
        "private_metadata": MAPPING,
    },
    required=("user_id", "role"),
    strict=False,
)
UPDATE = forms.Form({"role": forms.text}, required=("role",), strict=False)
ONLY_METADATA = forms.Form({"public_metadata": forms.mapping, "private_metadata": forms.mapping}, strict=False)


def create(call: Call) -> Any:
    """Make a user a member."""
    organization = organizations.get(call.instance, call.params["organization_id"])
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    made = memberships.create(call.instance, organization, user, fields["role"], fields)
    return shapes.membership(call.instance, made)


def list_of_organization(call: Call) -> Any:
    """Answer a page of the members of an organization."""
    organization = organizations.get(call.instance, call.params["organization_id"])
    return _list(call, call.instance.organization_members.of(organization.id))


def list_of_user(call: Call) -> Any:
    """Answer a page of the memberships of a user."""
    user = users.get(call.instance, call.params["user_id"])
    return _page(call, call.instance.user_memberships.of(user.id), descending=True)


def list_of_instance(call: Call) -> Any:
    """Answer a page of all memberships there are."""
    name, descending = call.query.order(ORDERS)
    table = call.instance.memberships
    if name == "created_at":
        walk = table.newest_first if descending else table.oldest_first
        rows: Iterable[Membership] = islice(walk(skip=call.query.offset), call.query.limit)
    else:
        rows = call.query.page(_sorted(call, table, name, descending))
    return _answer(call, rows, len(table))


def update(call: Call) -> Any:
    """Change the role of a member."""
    role = UPDATE.read(call.body)["role"]
    return shapes.membership(call.instance, memberships.change_role(call.instance, _membership(call), role))


def delete(call: Call) -> Any:
    """End a membership; the answer is the membership as it was."""
    found = _membership(call)
    return shapes.membership(call.instance, memberships.delete(call.instance, found))


def merge_metadata(call: Call) -> Any:
    """Merge metadata."""
    found = _membership(call)
    changes = ONLY_METADATA.read(call.body)
    return shapes.membership(call.instance, memberships.merge_metadata(call.instance, found, changes))


def _membership(call: Call) -> Membership:
    organization = organizations.get(call.instance, call.params["organization_id"])
    return memberships.get(call.instance, organization.id, call.params["user_id"])


def _list(call: Call, timeline: Timeline) -> Any:
    name, descending = call.query.order(ORDERS)
    wanted, roles = criteria(call), call.query.texts("role")
    if name == "created_at" and wanted.is_open and not roles:
        return _page(call, timeline, descending=descending)
    rows = search.members_who_fit(call.instance, _walk(call, timeline), wanted)
    found = [row for row in rows if not roles or row.role in roles]
    page = call.query.page(_sorted(call, found, name, descending))
    return _answer(call, page, len(found))


def _page(call: Call, timeline: Timeline, *, descending: bool) -> Any:
    ids = timeline.ids(descending=descending, skip=call.query.offset)
    rows = (call.instance.memberships.find(row_id) for row_id in islice(ids, call.query.limit))
    return _answer(call, (row for row in rows if row is not None), len(timeline))


def _walk(call: Call, timeline: Timeline) -> Iterator[Membership]:
    rows = map(call.instance.memberships.find, timeline.ids())
    return (row for row in rows if row is not None)


def _sorted(call: Call, rows: Iterable[Membership], name: str, descending: bool) -> Iterator[Membership]:
    def key(row: Membership) -> Any:
        if name == "created_at":
            return call.instance.memberships.key(row.id)
        user = call.instance.users.find(row.user_id)
        return search.user_value(user, name) if user else (False, None)

    return ordered(rows, key, descending=descending)


def _answer(call: Call, rows: Iterable[Membership], total: int) -> Any:
    return {"data": [shapes.membership(call.instance, row) for row in rows], "total_count": total}


HANDLERS: dict[str, Handler] = {
    "CreateOrganizationMembership": create,
    "ListOrganizationMemberships": list_of_organization,
    "UsersGetOrganizationMemberships": list_of_user,
    "InstanceGetOrganizationMemberships": list_of_instance,
    "UpdateOrganizationMembership": update,
    "DeleteOrganizationMembership": delete,
    "UpdateOrganizationMembershipMetadata": merge_metadata,
}
