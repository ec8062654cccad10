"""Strength of break-glass keys: weak keys are refused, and no others."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.auth.break_glass import MIN_SECRET_LENGTH, describe_weakness


@pytest.mark.parametrize("key", ["a", "admin", "correct horse batte", "x7#kQ9!mZ2@pL4$vN1"])
def test_a_short_key_is_refused(key: str) -> None:
    assert "too short" in (describe_weakness(key) or "")


@pytest.mark.parametrize(
    "key",
    [
        "aaaaaaaaaaaaaaaaaaaa",
        "passwordpasswordpassword",
        "changeme-changeme-changeme",
        "hunter2-hunter2-hunter2",
        "my-secret-admin-key-12345",
        "INSTEP_ADMIN_KEY_2026_test",
        "01234567890123456789",
        "abcdefghijklmnopqrstuvwxyz",
        "zyxwvutsrqponmlkjihgfedcba",
        "qwertyuiopasdfghjklzxcvbnm",
        "12121212121212121212121",
    ],
)
def test_a_common_key_is_refused(key: str) -> None:
    assert "easy to guess" in (describe_weakness(key) or "")


@pytest.mark.parametrize(
    "key", ["correct horse battery staple", "a key of more than twenty characters", "x" * 10 + "Kq7w2Zp9Lm"]
)
def test_other_keys_are_accepted(key: str) -> None:
    assert describe_weakness(key) is None


def test_random_keys_are_accepted() -> None:
    for _ in range(500):
        assert describe_weakness(secrets.token_urlsafe(24)) is None
        assert describe_weakness(secrets.token_hex(16)) is None


@given(st.text())
def test_any_text_is_accepted_or_refused(key: str) -> None:
    found = describe_weakness(key)
    assert found if len(key) < MIN_SECRET_LENGTH else True
