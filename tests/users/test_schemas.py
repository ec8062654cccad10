"""The fast JSON encoding of a page of users equals the documented one."""

from typing import Any

import msgspec
import pytest

from instep.mirror.user_repository import UserRow
from instep.users.models import UserMembership, UserProfile, UserSearchResult
from instep.users.schemas import UserList, encode_user_list, make_user_list

EMPTY_FIELDS: dict[str, Any] = dict.fromkeys(UserRow.__struct_fields__)
BLANK_USER = UserRow(
    **(
        EMPTY_FIELDS
        | {"id": "usr_1", "is_email_verified": False, "is_active": True, "is_banned": False, "joined_at": 1_000}
        | {"public_metadata": {}, "attributes": {}}
    )
)


def make_row(**changes: Any) -> UserRow:
    return msgspec.structs.replace(BLANK_USER, **changes)


def make_membership(status: str) -> UserMembership:
    names: dict[str, Any] = dict.fromkeys(UserMembership.__struct_fields__, "x")
    return UserMembership(**(names | {"slug": None, "status": status}))


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize(
    "row",
    [
        BLANK_USER,
        make_row(
            first_name='Zoë "Z" </script>', email="zoe@example.com", clerk_id="user_1", last_active_at=1_700_000_000_001
        ),
        make_row(public_metadata={"role": "boss", "deep": [1, 0.5, None, {"ключ": "\u2028"}]}, attributes={"n": 2**60}),
        make_row(deleted_at=5, joined_at=0, is_banned=True),
    ],
)
def test_the_fast_encoding_equals_the_documented_one(row: UserRow, is_complete: bool) -> None:
    memberships = (make_membership("active"), make_membership("deactivated"), make_membership("removed"))
    profiles = [
        UserProfile(user=row, memberships=memberships, is_complete=is_complete),
        UserProfile(user=row, memberships=(), is_complete=is_complete),
    ]
    found = UserSearchResult(rows=profiles, next_cursor="c")
    page, sent = make_user_list(found), encode_user_list(found)
    assert sent == page.model_dump_json().encode()
    assert UserList.model_validate_json(sent) == page


def test_an_empty_page_is_encoded() -> None:
    assert encode_user_list(UserSearchResult(rows=[], next_cursor=None)) == b'{"data":[],"next_cursor":null}'
