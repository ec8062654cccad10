"""Lenient decoding: escapes, nesting, and parts that are left out."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.lenient_json import (
    MAX_DECODED_NESTING,
    decode_leniently,
    prune_deep_nesting,
    replace_invalid_characters,
)
from instep.core.input_limits import replace_unstorable

texts = st.text(st.characters(categories=["L", "Cs", "Cc", "Po"]) | st.sampled_from(["\\", "u", "\0", "\ud800", '"']))


def clean(value: Any) -> Any:
    """What Python itself makes of it, and then replaces."""
    if isinstance(value, dict):
        return {replace_unstorable(key): clean(inner) for key, inner in value.items()}
    return [clean(it) for it in value] if isinstance(value, list) else replace_unstorable(value)


@given(st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8))
def test_repaired_json_differs_only_in_invalid_characters(value: Any) -> None:
    found = msgspec.json.decode(replace_invalid_characters(json.dumps(value).encode()))
    assert found == clean(json.loads(json.dumps(value)))


def test_invalid_utf_8_is_replaced() -> None:
    assert msgspec.json.decode(replace_invalid_characters(b'"Ma\xffya"')) == "Ma\ufffdya"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"[": ', b"}")])
def test_deep_nesting_becomes_null_and_the_rest_stays(opening: bytes, closing: bytes) -> None:
    body = b'[{"a": ' + opening * 50_000 + b"1" + closing * 50_000 + b'}, "]}[{"]'
    flat = msgspec.json.decode(prune_deep_nesting(body))
    assert flat[1] == "]}[{"
    depth, inner = 0, flat[0]["a"]
    while inner is not None:
        depth, inner = depth + 1, inner[0] if isinstance(inner, list) else inner["["]
    assert depth == MAX_DECODED_NESTING - 2
    assert prune_deep_nesting(b'{"a": [1]}') == b'{"a": [1]}'


def test_a_deeply_nested_row_does_not_fail_others() -> None:
    read = msgspec.json.Decoder(list[msgspec.Raw]).decode
    rows = decode_leniently(read, b"[1, " + b"[" * 50_000 + b"]" * 50_000 + b", 2]")
    assert [bytes(rows[0]), bytes(rows[2])] == [b"1", b"2"]
