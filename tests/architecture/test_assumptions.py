"""The page of what instep assumes of Clerk: whole, and about code and settings that there are."""

import re
from pathlib import Path

import pytest

from clerk_emulator.state import omittable
from instep.clerk import parsing, session_tokens

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "clerk-assumptions.md"
SPANS = re.findall(r"`([^`]+)`", PAGE.read_text(encoding="utf-8"))
WORDS = {word for span in SPANS for word in re.findall(r"[a-z_0-9]+", span)}
READ = (
    parsing.ClerkUserPayload,
    parsing.ClerkEmailPayload,
    parsing.ClerkOrganizationPayload,
    parsing.ClerkMembershipPayload,
    parsing.ClerkInvitationPayload,
    parsing.ClerkWebhookEnvelope,
)


@pytest.mark.parametrize("shape", [*READ, session_tokens._Claims], ids=lambda shape: shape.__name__)
def test_every_field_and_claim_that_is_read_stands_on_the_page(shape: type) -> None:
    fields: tuple[str, ...] = shape.__struct_fields__  # type: ignore[attr-defined]
    assert not [name for name in fields if name not in WORDS]


def test_every_file_on_the_page_is_there() -> None:
    files = {span for span in SPANS if re.fullmatch(r"[a-z_]+/[a-z_]+\.py", span)}
    assert files
    assert not [file for file in files if not (ROOT / "src" / "instep" / file).is_file()]


def test_every_name_by_which_the_emulator_leaves_something_out_is_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    last = [span for row in rows if len(row) == 5 for span in re.findall(r"`([^`]+)`", row[-1])]
    names = {span for span in last if "." in span}
    assert len(names) > 20
    omittable.require_known(names)
    for name in omittable.KEPT_BY_WILDCARD:
        assert name.startswith("phone_number") or f"`{name}`, *by name only*" in text, name
