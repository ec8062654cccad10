"""The mutants of tests/proof/mutants.py fit the present source, and what `make` runs exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.structure import ROOT, SRC
from tests.proof.mutants import MUTANTS, Mutant, split_suite

by_name = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@by_name
def test_the_text_of_every_mutant_occurs_once(mutant: Mutant) -> None:
    """Prevents a mutant that silently breaks nothing after a change of the source."""
    file = SRC / "instep" / mutant.file
    assert file.is_file()
    assert file.read_text(encoding="utf-8").count(mutant.old) == 1, f"quote {mutant.file} again"


@by_name
def test_every_mutant_is_valid_python(mutant: Mutant) -> None:
    """Prevents a mutant that every test detects, because its module cannot be imported."""
    source = (SRC / "instep" / mutant.file).read_text(encoding="utf-8")
    mutated = source.replace(mutant.old, mutant.new)
    assert mutated != source
    compile(mutated, mutant.file, "exec")


@by_name
def test_the_tests_of_every_mutant_exist(mutant: Mutant) -> None:
    """Prevents a run of several hours that ends at a test which was renamed."""
    path, *selection = split_suite(mutant.tests)
    assert (ROOT / path).exists(), f"{path} does not exist"
    for expression in selection[1:]:
        assert [name for name in list_test_names(ROOT / path) if expression in name], f"no test matches {mutant.tests}"


def test_mutants_have_different_names() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_test_path_in_the_makefile_exists() -> None:
    """Prevents a long run that ends at a file which was renamed."""
    paths = re.findall(r"(?<=\s)tests/[\w/.*-]+", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert paths
    made = [path for path in paths if path.endswith("node_modules")]  # by npm, before the first test run
    assert not [path for path in paths if path not in made and not list(ROOT.glob(path))]


def list_test_names(path: Path) -> list[str]:
    """Return the names of the test functions in a file, or in all files of a folder."""
    files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, functions)]
    return [name for name in names if name.startswith("test_")]
