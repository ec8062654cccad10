"""Seed files."""

import re
from pathlib import Path

import pytest

from clerk_emulator import Emulator
from clerk_emulator.control.seed_file import InvalidSeedFileError, SeedFile

YAML = """\
keys:
  secret_key: sk_test_pinned
users:
  - id: user_ada
    email_address: ada@example.com
    created_at: 2026-01-01T00:00:00Z
  - email_address: bo@example.com
organizations:
  - name: Northwind Law
    created_by: user_ada
"""


def file(folder: Path, text: str, name: str = "seed.yaml") -> SeedFile:
    path = folder / name
    path.write_text(text)
    return SeedFile(path)


def test_a_yaml_seed_pins_ids_and_keys(tmp_path: Path, emulator: Emulator) -> None:
    found = file(tmp_path, YAML)
    assert found.keys == {"secret_key": "sk_test_pinned"}
    assert emulator.seed(found.seed) == {"users": 2, "organizations": 1}
    ada = emulator.state.users.find("user_ada")
    assert ada is not None
    assert ada.created_at == 1_767_225_600_000


@pytest.mark.parametrize(
    ("name", "old", "new", "line"),
    [
        ("seed.yaml", "- email_address: bo@example.com", "- email: bo@example.com", 7),
        ("seed.yaml", "- email_address: bo@example.com", "- email_address: ada@example.com", 7),
        ("seed.yaml", "created_by: user_ada", "created_by: user_eve", 9),
        ("seed.yaml", "users:", "people:", 3),
    ],
)
def test_an_invalid_entry_is_reported_with_its_line(
    tmp_path: Path, emulator: Emulator, name: str, old: str, new: str, line: int
) -> None:
    found = file(tmp_path, YAML.replace(old, new), name)
    with pytest.raises(ValueError, match=r".") as invalid:
        emulator.seed(found.seed)
    assert f"seed.yaml:{line}: " in str(found.explain(invalid.value))


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("seed.json", '{"users": [\n{"email_address"', 2),
        ("seed.json", "[]", 1),
        ("seed.yaml", "users:\n  - a: [", 2),
        ("seed.yaml", "keys:\n  colour: red\n", 1),
        ("seed.yaml", "users: []\nkeys:\n  secret_key: 5\n", 3),
    ],
)
def test_an_unreadable_seed_is_reported_with_its_line(tmp_path: Path, name: str, text: str, line: int) -> None:
    with pytest.raises(InvalidSeedFileError, match=rf"{name}:{line}: "):
        file(tmp_path, text, name)


def test_the_documented_seed_loads(tmp_path: Path, emulator: Emulator) -> None:
    page = Path(__file__).parents[3] / "docs" / "emulator.md"
    (example,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    found = file(tmp_path, example)
    assert set(found.keys) == {"secret_key"}
    assert emulator.seed(found.seed)["organizations"] == 1
