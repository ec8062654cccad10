"""docs/architecture.md leads to code that exists."""

import ast
import re

import pytest

from tests.architecture.structure import ROOT, product

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = sorted(set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", PAGE)))
NAMES = sorted(set(re.findall(r"`([A-Z]\w+(?:\.\w+)?|(?:apply|find|insert|mark|parse|make|resend)_\w+)`", PAGE)))
KINDS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_every_file_exists() -> None:
    assert len(FILES) > 20
    assert [
        file for file in FILES if not any((base / file).is_file() for base in (ROOT, ROOT / "src" / "instep"))
    ] == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.isupper() and not name.startswith("INSTEP_")])
def test_every_name_is_defined(name: str) -> None:
    class_name, _, method = name.partition(".")
    nodes = [node for module in product("instep") for node in ast.walk(module.tree) if isinstance(node, KINDS)]
    found = [node for node in nodes if node.name == class_name]
    assert found, f"{name} is on the page and nowhere in instep"
    assert not method or any(isinstance(it, KINDS) and it.name == method for node in found for it in ast.walk(node))
