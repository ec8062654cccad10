"""The command line: done is 0, failed is 1 with one line that says why, not understood is 2; never a traceback."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer
from typer.main import get_group

from instep import __version__
from instep.app import cli
from instep.app.cli import app, main
from instep.app.config import Settings
from instep.core.schema_migrations import get_required_revision

DOCS = Path(__file__).parents[2] / "docs"
HIDDEN = "hunter2-hunter2-hunter2"


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs `instep ...` in an empty folder with nothing set but what the test sets."""
    monkeypatch.chdir(tmp_path)
    for name in (*Settings.model_fields, "clerk_webhook_secret", "clerk_emulator_port"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("INSTEP_DATABASE_URL", f"sqlite:///{tmp_path / 'instep.db'}")

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["instep", *words])
        with pytest.raises(SystemExit) as ended:
            _exit_from(main)
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return Ended(int(ended.value.code or 0), said.out, said.err)

    yield run
    structlog.reset_defaults()


def _exit_from(command: Callable[[], None]) -> None:
    """A command that only returns has done what it should."""
    command()
    sys.exit(0)


def failed(ended: Ended) -> str:
    """The one line of a failure."""
    assert ended.code == 1
    (line,) = ended.err.strip().splitlines()
    return line


def test_it_prints_its_version(run: Run) -> None:
    assert run("version").out.strip() == __version__


@pytest.mark.parametrize("words", [(), ("nonsense",), ("people",), ("people", "x", "--limit", "0")])
def test_a_usage_error_exits_with_2_and_prints_help(run: Run, words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert ended.code == 2
    assert "Usage" in ended.err + ended.out


def test_migrate_creates_the_schema_and_is_idempotent(run: Run) -> None:
    for _ in range(2):
        ended = run("migrate")
        assert (ended.code, ended.out) == (0, f"The schema is at version {get_required_revision()}.\n")


@pytest.mark.parametrize("words", [("serve",), ("people", "acme"), ("work",)])
def test_an_old_schema_is_refused_with_the_command_to_run(run: Run, words: tuple[str, ...]) -> None:
    assert "instep migrate" in failed(run(*words))


def test_an_unknown_organization_is_one_line(run: Run) -> None:
    run("migrate")
    assert "nowhere" in failed(run("people", "nowhere"))


def test_an_invalid_cursor_is_a_usage_error(run: Run) -> None:
    ended = run("people", "nowhere", "--cursor", "zz")
    assert ended.code == 2
    assert "--cursor" in ended.err


def test_a_taken_port_is_one_line_that_names_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("migrate")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("INSTEP_PORT", str(port))
        assert str(port) in failed(run("serve"))


def test_a_taken_port_of_the_demo_is_one_line_that_says_how_to_choose_another(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INSTEP_DATA_DIR", str(tmp_path / "demo"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name in ("INSTEP_PORT", "CLERK_EMULATOR_PORT"):
            monkeypatch.setenv(name, str(taken.getsockname()[1]))
            line = failed(run("demo"))
            assert f"{name}=" in line or "INSTEP_PORT=" in line


@pytest.mark.parametrize("words", [("serve",), ("migrate",), ("doctor",), ("people", "acme"), ("work",)])
@pytest.mark.parametrize("name", ["INSTEP_PORT", "INSTEP_DATABASE_URL"])
def test_a_wrong_setting_is_one_line_that_names_it_and_not_its_value(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], name: str
) -> None:
    monkeypatch.setenv(name, HIDDEN)
    ended = run(*words)
    assert ended.code == 1
    assert name in ended.err + ended.out
    assert HIDDEN not in ended.err + ended.out


def test_a_database_that_is_not_there_is_one_line_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTEP_DATABASE_URL", f"postgresql://somebody:{HIDDEN}@127.0.0.1:1/nowhere")
    for words in (("people", "acme"), ("migrate",), ("serve",)):
        assert HIDDEN not in failed(run(*words))


def test_the_doctor_names_everything_that_is_missing_and_fails(run: Run) -> None:
    ended = run("doctor")
    assert ended.code == 1
    wrong = [line for line in ended.out.splitlines() if line.startswith("WRONG")]
    for what in ("Database", "CLERK_SECRET_KEY", "CLERK_PUBLISHABLE_KEY", "CLERK_WEBHOOK_SIGNING_SECRET"):
        assert any(what in line for line in wrong), what
    assert "instep migrate" in ended.out


def test_every_command_is_in_the_documentation() -> None:
    described = (DOCS / "cli.md").read_text()
    main: Any = typer.main.get_command(app)
    groups = {f"{name} ": it.commands for name, it in main.commands.items() if getattr(it, "commands", None)}
    names = [name for commands in (main.commands, *groups.values()) for name in commands]
    assert len(names) > 30
    assert [name for name in names if not re.search(rf"`(instep (\w+ )?)?{name}\b", described)] == []


def test_every_command_of_every_module_can_be_called() -> None:
    main: Any = typer.main.get_command(app)
    root = Path(cli.__file__).parents[1]
    paths = [path.relative_to(root).with_suffix("") for path in (*root.glob("*/cli.py"), *root.glob("app/cli_*.py"))]
    modules = [import_module(".".join(["instep", *path.parts])) for path in paths if path.parts != ("app", "cli")]
    names = [name for it in modules if hasattr(it, "app") for name in get_group(it.app).commands]
    assert sorted([*names, "version"]) == sorted(main.commands)
    assert {name: command.name for name, command in main.commands.items()} == {name: name for name in main.commands}


def test_a_command_imports_only_its_own_module() -> None:
    """What a sync needs is a third of what everything needs: no web framework is loaded for it."""
    asking = "import re, sys, typer.main; from instep.app.cli import app; typer.main.get_command(app).commands['sync'];"
    telling = "loaded = [it for it in sys.modules if re.fullmatch(r'instep\\..+\\.cli(_\\w+)?|fastapi', it)];"
    telling += "print(*sorted(loaded))"
    told = subprocess.run([sys.executable, "-c", asking + telling], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["instep.app.cli", "instep.sync.cli"]
