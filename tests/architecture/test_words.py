"""Names say what a thing is, files say what they are for, and nothing of one machine is left in the repository."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.structure import PRODUCTS, ROOT, SRC, product
from tests.architecture.test_layers import LAYERS
from tests.support.need import need

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}

ACROSS = {"architecture", "attack", "browser", "cases", "contract", "proof", "stories", "support"}
ELSEWHERE = "What tests several modules at once goes to tests/stories, tests/contract or tests/browser."

# Written so that none of them finds itself here.
HOSTS = r"py[p]i\.org|python[h]osted\.org|np[m]js\.(?:org|com)|deb\.deb[i]an\.org"
REGISTRIES = HOSTS + r"|[/]simple/|(?<!-no-emit)-index[-]url|--find[-]links"
MACHINES = r"(?<![\w.~}])/(?:root|work|workspace|home/\w+|Users/\w+)/"
SECRETS = r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY|gh[pousr]_\w{36}|AKIA[0-9A-Z]{16}"


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_module_opens_with_one_line_that_says_what_it_is(name: str) -> None:
    """Prevents the tour of ten files that a newcomer needs to find the right one."""
    silent = [module.path for module in product(name) if not opens_with_a_line(ast.get_docstring(module.tree))]
    assert not silent, f"open each with a docstring whose first line is one sentence: {silent}"


def opens_with_a_line(docstring: str | None) -> bool:
    first, _, rest = (docstring or "").partition("\n")
    return bool(first.strip()) and not rest.partition("\n")[0].strip()


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_module_has_a_name_that_says_nothing(name: str) -> None:
    """Prevents the drawer where everything ends that nobody wanted to name."""
    empty = [module.path for module in product(name) if EMPTY_NAMES & set(module.name.split("."))]
    assert not empty, f"name it after what it does: {empty}"


def test_every_folder_of_tests_is_named_after_a_package() -> None:
    """Prevents tests that nobody finds when the package changes."""
    homes = {"clerk_emulator": SRC / "clerk_emulator", **{room: SRC / "instep" / room for room in LAYERS["instep"]}}
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    known = {*homes, *ACROSS}
    lost = [str(folder) for folder in folders if folder.parts and folder.parts[0] not in known]
    assert not lost, f"{lost}\ntests/<package>/test_*.py tests <package>. {ELSEWHERE}"


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRIES, "--index" + "-url https://mirror.example/" + "simple/"),
        (REGISTRIES, '"resolved": "https://registry.np' + 'mjs.org/axe"'),
        (MACHINES, "cd /" + "work/main"),
        (MACHINES, "shell = '/" + "home/somebody/bin'"),
        (SECRETS, "-----BEGIN RSA PRIVATE" + " KEY-----"),
    ],
)
def test_the_search_finds(tmp_path: Path, pattern: str, line: str) -> None:
    """Prevents a search that finds nothing because it cannot."""
    (tmp_path / "file.txt").write_text(f"harmless\n{line}\n")
    assert places(tmp_path / "file.txt", re.compile(pattern), tmp_path) == [f"file.txt, line 2: {line}"]


@pytest.mark.parametrize("line", ["inbox/work/", "/v1/users/", "--no-emit-index" + "-url"])
def test_the_search_leaves_harmless_lines_alone(tmp_path: Path, line: str) -> None:
    """Prevents a search that must be switched off because it cries wolf."""
    (tmp_path / "file.txt").write_text(line)
    assert places(tmp_path / "file.txt", re.compile(f"{REGISTRIES}|{MACHINES}|{SECRETS}"), tmp_path) == []


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        pytest.param(
            REGISTRIES, "the address of a package registry: a checkout elsewhere cannot reach it", id="registries"
        ),
        pytest.param(MACHINES, "a path of one machine: it is nowhere else", id="machines"),
        pytest.param(SECRETS, "a secret: whoever reads the repository has it", id="secrets"),
    ],
)
def test_no_tracked_file_holds(pattern: str, harm: str) -> None:
    """Prevents what works on one machine only, and what must not leave it, from being published."""
    found = [place for path in tracked_files() for place in places(path, re.compile(pattern))]
    assert not found, "\n".join([*found, f"Take it out: this is {harm}."])


def places(path: Path, pattern: re.Pattern[str], top: Path = ROOT) -> list[str]:
    lines = enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1)
    found = [(number, line.strip()[:150]) for number, line in lines if pattern.search(line)]
    return [f"{path.relative_to(top)}, line {number}: {line}" for number, line in found]


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        need("the list of tracked files (git ls-files fails)", "run the tests in a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
