"""Names, docstrings and texts are standard technical English: see the glossary in docs/glossary.md."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.structure import PRODUCTS, ROOT, SRC, Module, product

PACKAGES = sorted({f"{name}.{module.package}" for name in PRODUCTS for module in product(name) if module.package})
RELATIVE = re.compile(r"(What|Whether|How|Who|Whoever|Whom|Whose|Which|Where|Wherever|When|Whenever|That|Those)\b")
WORDS = "told|said|held|mend|news|parked|whoever"
PHRASES = "by itself|for ever|at the most|goes on|taken in|put out|stand-in"
BANNED = re.compile(rf"(?<![A-Za-z])(?:{WORDS})(?![A-Za-z])|\b(?:{PHRASES})\b", re.IGNORECASE)
# Stored words, JSON fields and form fields: published or kept in databases, so they stay as they are.
KEPT = re.compile(
    r"""["']parked["']|["']news["']|["']mend["']|\.mend\b|\bmend[:=]|state=parked|`parked`"""
    r"""|"index_held_|search_held_"""
    r"""|Clerk last said that """  # the comment of a table
)
OLD_CLASSES = frozenset(
    [
        "News",
        "Seen",
        "Gone",
        "AskAgain",
        "Ledger",
        "Said",
        "Asked",
        "Unsettled",
        "Busy",
        "Overtaken",
        "Unknowable",
        "Procedure",
        "Runner",
        "Everything",
        "Directory",
        "Actor",
        "Inviter",
        "Accounts",
        "Admissions",
        "Ask",
        "Wish",
        "Refused",
        "Desk",
        "Firm",
        "Town",
        "Crowd",
        "Spot",
        "Keeper",
        "Telling",
        "Look",
        "Lane",
        "Chip",
    ]
)
OLD_MODULES = frozenset(
    [
        "desk",
        "flows",
        "store",
        "absent",
        "missing",
        "held",
        "standing",
        "around",
        "sought",
        "needles",
        "door",
        "told",
        "words",
        "ledger",
        "firm",
        "town",
        "wiring",
        "spots",
        "story",
        "crowd",
        "chips",
        "asking",
        "looks",
        "lone",
        "lanes",
        "panels",
        "telling",
        "keeping",
    ]
)


def modules_of(package: str) -> list[Module]:
    name, _, folder = package.partition(".")
    return [module for module in product(name) if module.package == folder]


def documented(module: Module) -> Iterator[tuple[int, str]]:
    """Every docstring with its line."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(module.tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_open_with_an_imperative_or_a_noun_phrase(package: str) -> None:
    """A first line such as "Whether ..." says nothing until the sentence is read to its end."""
    found = [
        f"{module.path}, line {line}: {text.splitlines()[0]}"
        for module in modules_of(package)
        for line, text in documented(module)
        if RELATIVE.match(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_banned_word(package: str) -> None:
    """The private vocabulary of the first version is gone from the code."""
    found = [
        f"{module.path}, line {number}: {line.strip()}"
        for module in modules_of(package)
        if not module.path.startswith("migrations/versions/")  # frozen: their comments and indexes are in databases
        for number, line in enumerate(module.source.splitlines(), 1)
        if BANNED.search(KEPT.sub("", line))
    ]
    assert not found, "\n".join(found)


def texts() -> list[Path]:
    """Everything else that people read."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *SRC.rglob("*.html")]
    return [path for path in pages if path.name != "CHANGELOG.md"]  # which names old things, to say what became of them


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_banned_word_in_a_text(path: Path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    found = [
        f"{path.name}, line {number}: {line.strip()}" for number, line in lines if BANNED.search(KEPT.sub("", line))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_public_class_name_is_given_once(name: str) -> None:
    """One name, one meaning. Models named for Django users are exempt."""
    places = defaultdict(list)
    for module in product(name):
        if module.path != "integrations/django/models.py":
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(module.path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_class_or_module_of_instep_has_an_old_name() -> None:
    classes = {
        f"{module.path}: {node.name}"
        for module in product("instep")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and node.name.lstrip("_") in OLD_CLASSES
    }
    modules = {module.path for module in product("instep") if module.name.rpartition(".")[2] in OLD_MODULES}
    assert not classes | modules


@pytest.mark.parametrize("name", PRODUCTS)
def test_exceptions_end_in_error(name: str) -> None:
    parents = {
        node.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        for module in product(name)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }

    def is_exception(class_name: str) -> bool:
        if class_name in ("Exception", "BaseException", "ValueError", "OSError", "RuntimeError", "LookupError"):
            return True
        return any(is_exception(parent) for parent in parents.get(class_name, []) if parent != class_name)

    found = [each for each in parents if is_exception(each) and not each.endswith("Error")]
    assert not found


@pytest.mark.parametrize("package", PACKAGES)
def test_parameters_say_what_they_are(package: str) -> None:
    """Identifiers carry their kind (`user_id`), `it` is nobody, and `now` is a time in Unix milliseconds."""
    found: Counter[str] = Counter()
    for module in modules_of(package):
        for function in module.functions:
            spec = function.args
            for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs):
                is_time = argument.annotation is not None and ast.unparse(argument.annotation) in ("int", "float")
                if argument.arg in ("id", "it") or (argument.arg == "now" and not is_time):
                    found[f"{module.path}, line {function.lineno}: {function.name}({argument.arg})"] += 1
    assert not found, "\n".join(found)
