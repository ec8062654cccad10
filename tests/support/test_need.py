"""What a machine lacks is said aloud, and where CI is set it is a failure."""

from pathlib import Path

import pytest

from tests.support import need
from tests.support.need import clerk_file
from tests.support.need import need as support_need


@pytest.mark.parametrize("ci", ["", "0", "false"])
def test_a_skip_says_what_is_missing_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match=r"NOT TESTED.*lacks a moon.*To get it: build a rocket"):
        support_need("a moon", "build a rocket")


@pytest.mark.parametrize("ci", ["true", "1"])
def test_where_ci_is_set_a_skip_is_a_failure(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception, match=r"lacks a moon.*To get it: build a rocket"):
        support_need("a moon", "build a rocket")


def test_clerks_own_files_may_be_absent_even_where_ci_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(need, "CLERK_FILES", tmp_path)
    with pytest.raises(pytest.skip.Exception, match=r"bapi\.yml is not here"):
        clerk_file("bapi.yml")


def test_clerks_own_files_are_found_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(need, "CLERK_FILES", tmp_path)
    (tmp_path / "bapi.yml").touch()
    assert clerk_file("bapi.yml") == tmp_path / "bapi.yml"
