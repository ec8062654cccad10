"""A page of people is sent as the document says, on the fast way too."""

from typing import Any

import msgspec
import pytest

from instep.mirror.people import PersonRow
from instep.profiles.profile import Belonging, Profile, Users
from instep.profiles.shapes import UserPage, as_bytes, page_of

NOBODY = PersonRow(
    **(
        dict.fromkeys(PersonRow.__struct_fields__)
        | {"id": "usr_1", "is_email_verified": False, "is_active": True, "is_banned": False, "joined_at": 1_000}
        | {"public_metadata": {}, "attributes": {}}
    )
)


def person(**changes: Any) -> PersonRow:
    return msgspec.structs.replace(NOBODY, **changes)


def belonging(status: str) -> Belonging:
    names: dict[str, Any] = dict.fromkeys(Belonging.__struct_fields__, "x")
    return Belonging(**(names | {"slug": None, "status": status}))


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(
    "row",
    [
        NOBODY,
        person(
            first_name='Zoë "Z" </script>', email="zoe@example.com", clerk_id="user_1", last_active_at=1_700_000_000_001
        ),
        person(public_metadata={"role": "boss", "deep": [1, 0.5, None, {"ключ": "\u2028"}]}, attributes={"n": 2**60}),
        person(deleted_at=5, joined_at=0, is_banned=True),
    ],
)
def test_a_page_is_sent_as_the_people_on_it_are(row: PersonRow, is_whole: bool) -> None:
    belongings = (belonging("active"), belonging("deactivated"), belonging("removed"))
    profiles = [
        Profile(person=row, belongings=belongings, is_whole=is_whole),
        Profile(person=row, belongings=(), is_whole=is_whole),
    ]
    found = Users(rows=profiles, next_cursor="c")
    page, sent = page_of(found), as_bytes(found)
    assert sent == page.model_dump_json().encode()
    assert UserPage.model_validate_json(sent) == page


def test_a_page_of_nobody_is_sent() -> None:
    assert as_bytes(Users(rows=[], next_cursor=None)) == b'{"data":[],"next_cursor":null}'
