"""The shape of the house: which room may know which, read off every import of every file.

Arrows point down. Each forbidden one is told with its file, its line and the reason why it is forbidden.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from cdf_upsert.sandbox.serve import Running, running
from cdf_upsert.sandbox.testing import Options
from tests.records import make_text

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cdf_upsert"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BASE = words("core errors")
SHELLS = ("sources", "client", "auth", "journal", "screen", "network", "settings")
HANDED_IN = ("load", "verify", "doctor")

ARROWS: dict[str, frozenset[str]] = {
    "core": frozenset({"core"}),
    "errors": frozenset(),
    **{room: BASE | {room} for room in (*SHELLS, *HANDED_IN)},
    "sandbox": frozenset({"sandbox"}),
    "cli": BASE | {"cli", "sandbox", "version", *SHELLS, *HANDED_IN},
    "__main__": frozenset({"cli"}),
    "version": frozenset(),
}
"""What each room may import of this package; `version` is the package's own `__init__.py`."""

WHY = {
    "core": "the core decides without knowing who acts: hand it values",
    "errors": "errors stand at the bottom, so that everyone may raise them",
    **dict.fromkeys(SHELLS, "shells know the core and errors, never each other: let cli wire them together"),
    **dict.fromkeys(HANDED_IN, "its shells are handed in, as protocols: let cli wire them together"),
    "sandbox": "sandbox and loader share no code, or they could agree on the same mistake",
    "cli": "this part of the house is unknown to tests/test_architecture.py",
    "__main__": "it only starts the command line",
    "version": "importing the package must cost nothing",
}

SERVES_SANDBOX = {"cli/sandbox.py", "cli/wiring.py"}
"""The only files outside of the sandbox that may start one."""

PURE = words(
    "abc base64 bisect collections contextlib copy dataclasses datetime difflib enum fractions functools hashlib "
    "heapq ipaddress itertools json math msgspec operator pathlib re shlex signal string struct types typing "
    "unicodedata urllib.parse"
)
"""What the core may import: libraries that only compute. Of `pathlib` and `signal` it uses names and values."""

REACHES_OUT = words(
    "now today utcnow open print input exec eval "
    "read_bytes read_text write_bytes write_text exists is_file is_dir stat iterdir mkdir touch unlink resolve "
    "getenv environ urandom cwd home expanduser"
)
"""What must not be called in the core, however it was come by: clocks, files, screens."""

ENGINE = PURE | {"asyncio"}
"""What the engine may import: it waits, and touches nothing else."""

OWNERS: dict[str, tuple[frozenset[str], str]] = {
    "httpx": (
        frozenset({"client", "auth", "network", "doctor"}),
        "nothing of httpx leaves the rooms that talk HTTP",
    ),
    "authlib": (frozenset({"auth"}), "how one signs in is the business of auth"),
    "keyring": (frozenset({"auth"}), "how one signs in is the business of auth"),
    "truststore": (frozenset({"network"}), "how connections leave this machine is the business of network"),
    "ssl": (frozenset({"network"}), "how connections leave this machine is the business of network"),
    "rich": (frozenset({"screen/bar.py"}), "only a bar needs rich, which is slow to import"),
    "typer": (frozenset({"cli"}), "flags are known to the command line alone"),
    "ijson": (frozenset({"sources"}), "inputs are read in sources"),
    "sqlite3": (
        # cli/verifying.py names the error of a full disk, and opens no database.
        frozenset({"journal", "verify", "sandbox", "cli/verifying.py"}),
        "each database has one owner",
    ),
    "platformdirs": (frozenset({"settings"}), "where files of a user are is a setting"),
    "dotenv": (frozenset({"settings"}), ".env is read by the settings"),
    "starlette": (frozenset({"sandbox"}), "an extra, which a loader must do without"),
    "uvicorn": (frozenset({"sandbox"}), "an extra, which a loader must do without"),
    "pytest": (frozenset({"sandbox/testing.py"}), "no test switch in production code"),
    "unittest": (frozenset(), "no test switch in production code"),
    "requests": (frozenset(), "httpx is the way to talk HTTP"),
    "subprocess": (
        frozenset({"settings", "sources/apart.py"}),
        "only a secret that a command tells and a large file need another process",
    ),
}
"""Libraries that have a place, and why they are not wanted elsewhere."""

ADVERTISED = {"dotenv": "python-dotenv", "backports": "backports.zstd", "compression": "backports.zstd"}
"""Import names that differ from the name to install; `compression` is the standard library's from 3.14 on."""
BY_CHANCE = {"keyring": "used where the user has it"}
BY_EXTRA = {"starlette": "sandbox", "uvicorn": "sandbox", "pytest": "dev"}


@dataclass(frozen=True)
class Import:
    """One import of one file; `module` is the whole name of what is imported."""

    file: str
    line: int
    module: str
    for_types: bool

    @property
    def room(self) -> str:
        """The room of the file."""
        return room_of(self.file)

    @property
    def library(self) -> str:
        """The first part of the name."""
        return self.module.split(".")[0]

    def told(self, why: str) -> str:
        """Tell it to whoever has to mend it."""
        return f"{PACKAGE}/{self.file}:{self.line} imports {self.module}: {why}"


def room_of(file: str) -> str:
    """`core/record.py` is in `core`, `client.py` in `client`."""
    first = file.split("/", maxsplit=1)[0].removesuffix(".py")
    return "version" if first == "__init__" else first


@cache
def files() -> dict[str, ast.Module]:
    folder = ROOT / PACKAGE
    return {
        path.relative_to(folder).as_posix(): ast.parse(path.read_bytes())
        for path in sorted(folder.rglob("*.py"))
    }


@cache
def imports() -> list[Import]:
    return [one for file, tree in files().items() for one in imports_of(file, tree)]


def imports_of(file: str, tree: ast.Module) -> Iterator[Import]:
    """All imports, wherever they stand; those for types only are told apart."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                parent = absolute(file, module, level)
                # `from package import room` names a module, `from package.room import name` a name in it.
                modules = [f"{parent}.{name.name}" if parent == PACKAGE else parent for name in names]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module")
            ):
                modules = [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
            case _:
                continue
        for module in modules:
            yield Import(file, node.lineno, module, node in for_types)


def absolute(file: str, module: str | None, level: int) -> str:
    """The whole name of what `from ...module import` means in a file."""
    if not level:
        assert module is not None
        return module
    folder = [PACKAGE, *file.split("/")[:-1]]
    return ".".join([*folder[: len(folder) - level + 1], *([module] if module else [])])


def own_room(module: str) -> str:
    """The room that an import of this package leads to."""
    parts = module.split(".")
    rooms = {room_of(file) for file in files()}
    return parts[1] if len(parts) > 1 and parts[1] in rooms else "version"


def listed(faults: list[str]) -> str:
    return "\n" + "\n".join(faults)


def test_every_room_is_known() -> None:
    """A new room of the house has its arrows written down here before it is used."""
    assert {room_of(file) for file in files()} == set(ARROWS)


def test_arrows_point_down() -> None:
    """No room imports one that it must not know, not even for types."""
    faults = [
        one.told(WHY[one.room])
        for one in imports()
        if one.library == PACKAGE and own_room(one.module) not in ARROWS[one.room]
    ]
    assert not faults, listed(faults)


def knows() -> dict[str, set[str]]:
    """The files that each file imports; `from package import name` leads to the file of that name, if there is one."""
    known: dict[str, set[str]] = {}
    for file, tree in files().items():
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                parent = absolute(file, node.module, node.level)
                found |= {file_of(f"{parent}.{name.name}") or file_of(parent) for name in node.names}
            elif isinstance(node, ast.Import):
                found |= {file_of(name.name) for name in node.names}
        known[file] = {one for one in found if one not in (None, file)}
    return known


def file_of(module: str) -> str | None:
    """The file of a module of this package, or none."""
    path = "/".join(module.split(".")[1:])
    return next((file for file in (f"{path}.py", f"{path}/__init__.py".lstrip("/")) if file in files()), None)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not for types either: what cannot be told apart stands in one file."""
    assert {"core/record.py", "load/outbox.py", "load/settling.py"} <= knows()["load/engine.py"]
    try:
        TopologicalSorter(knows()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_nobody_imports_the_command_line() -> None:
    """`cli` is at the top: only `python -m cdf_upsert` may start it."""
    faults = [
        one.told("the command line is at the top, and nobody depends on it")
        for one in imports()
        if one.library == PACKAGE and own_room(one.module) == "cli" and one.room not in ("cli", "__main__")
    ]
    assert not faults, listed(faults)


def test_the_sandbox_is_started_in_two_places() -> None:
    """The loader reaches the sandbox only where it starts one, never by sharing its code."""
    faults = [
        one.told(f"only {' and '.join(sorted(SERVES_SANDBOX))} may start a sandbox")
        for one in imports()
        if one.library == PACKAGE
        and own_room(one.module) == "sandbox"
        and one.room != "sandbox"
        and one.file not in SERVES_SANDBOX
    ]
    assert not faults, listed(faults)


def is_of(module: str, libraries: frozenset[str]) -> bool:
    return any(module == library or module.startswith(f"{library}.") for library in libraries)


@pytest.mark.parametrize(
    ("room", "allowed", "why"),
    [
        ("core", PURE, "the core computes, and touches no clock, dice, file, socket or event loop"),
        ("load", ENGINE, "the engine only waits; what it needs of the world is handed in (load/ports.py)"),
    ],
)
def test_inner_rooms_use_libraries_that_only_compute(room: str, allowed: frozenset[str], why: str) -> None:
    """Core and engine import nothing that reads a clock, throws dice or touches the world."""
    faults = [
        one.told(why)
        for one in imports()
        if one.room == room and one.library != PACKAGE and not is_of(one.module, allowed)
    ]
    assert not faults, listed(faults)


def test_the_core_only_computes() -> None:
    """The core does not wait and calls nothing that reads a clock, a file or the environment."""
    faults = [
        f"{PACKAGE}/{file}:{line} has `{what}`: the core takes the time, the dice and the data as arguments"
        for file, tree in files().items()
        if room_of(file) == "core"
        for line, what in reaching_out(tree)
    ]
    assert not faults, listed(faults)


def reaching_out(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "async"
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in REACHES_OUT:
                yield node.lineno, ast.unparse(node)
            case ast.Global(names=names):
                yield node.lineno, f"global {', '.join(names)}"


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_stays_in_its_place(library: str) -> None:
    """A library with an owner is imported by its owner only."""
    owners, why = OWNERS[library]
    faults = [
        one.told(why)
        for one in imports()
        if one.library == library and not one.for_types and not {one.room, one.file} & owners
    ]
    assert not faults, listed(faults)


def test_every_library_is_declared() -> None:
    """What is imported is installed: by the standard library, the dependencies, or the extra that needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {name_of(line) for line in project["dependencies"]}
    extras = {
        extra: {name_of(line) for line in lines} for extra, lines in project["optional-dependencies"].items()
    }
    faults = []
    for one in imports():
        name = ADVERTISED.get(one.library, one.library)
        by_extra = extras[BY_EXTRA[name]] if name in BY_EXTRA else set()
        known = one.library in sys.stdlib_module_names or one.library == PACKAGE or name in BY_CHANCE
        if not known and name not in declared | by_extra:
            faults.append(one.told("pyproject.toml does not name it"))
    assert not faults, listed(faults)


def name_of(requirement: str) -> str:
    return re.split("[>;]", requirement, maxsplit=1)[0].strip()


# What the rules above would say of files that break them: a rule that sees nothing is no rule.


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import cdf_upsert.journal", "cdf_upsert.journal"),
        ("from cdf_upsert import journal", "cdf_upsert.journal"),
        ("from cdf_upsert.journal.store import Store", "cdf_upsert.journal.store"),
        ("from .. import journal", "cdf_upsert.journal"),
        ("from ..journal import Journal", "cdf_upsert.journal"),
        ("def f():\n    from cdf_upsert.journal import Journal", "cdf_upsert.journal"),
        ("if TYPE_CHECKING:\n    from cdf_upsert.journal import Journal", "cdf_upsert.journal"),
        ("importlib.import_module('cdf_upsert.journal')", "cdf_upsert.journal"),
    ],
)
def test_no_import_is_overlooked(source: str, module: str) -> None:
    """An import is seen in whatever way it is written, and leads to its room."""
    [found] = imports_of("core/record.py", ast.parse(source))
    assert found.module == module
    assert own_room(found.module) == "journal"
    assert own_room(found.module) not in ARROWS[found.room]


@pytest.mark.parametrize(
    "source",
    [
        "datetime.now(UTC)",
        "open('a')",
        "Path('a').read_text()",
        "async def f(): ...",
        "def f():\n global x",
        "print(1)",
    ],
)
def test_reaching_out_is_seen(source: str) -> None:
    """What the core must not do is found when it is done."""
    assert list(reaching_out(ast.parse(source)))


# Start-up time: what a command does not need is not imported for it.

HEAVY = words(
    "asyncio authlib dotenv filelock httpx ijson isal orjson platformdirs rich sqlite3 ssl starlette "
    "truststore uvicorn"
)


def imported_by(arguments: list[str], directory: Path, **environment: str) -> set[str]:
    """What the interpreter imports for a command, as it tells itself."""
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=directory,
        env={"PATH": "", "HOME": str(directory), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    assert finished.returncode == 0, finished.stderr[-2000:]
    return {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in lines} - {"imported package"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import cdf_upsert.cli"],
        ["-m", PACKAGE, "--version"],
        ["-m", PACKAGE, "--help"],
        ["-m", PACKAGE, "load", "--help"],
        ["-m", PACKAGE, "sandbox", "--help"],
    ],
    ids=lambda arguments: " ".join(arguments[1:]),
)
def test_who_only_asks_for_help_waits_for_nothing(arguments: list[str], tmp_path: Path) -> None:
    """The command line itself imports nothing heavy."""
    assert sorted(imported_by(arguments, tmp_path) & HEAVY) == []


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(Options()) as served:
        yield served


def test_a_load_imports_only_what_it_needs(sandbox: Running, tmp_path: Path) -> None:
    """A load of NDJSON with a given token, no bar and no sandbox does without what serves only those."""
    (tmp_path / "a.ndjson").write_bytes(make_text("a"))
    environment = {
        "CDF_URL": sandbox.address.base_url,
        "CDF_PROJECT": "sandbox",
        "LOGIN_FLOW": "token",
        "CDF_TOKEN": sandbox.token,
    }
    seen = imported_by(["-m", PACKAGE, "load", "demo", "a.ndjson"], tmp_path, **environment)
    assert {"httpx", "sqlite3", "msgspec"} <= seen, "the load was not watched"
    unneeded = words("authlib dotenv filelock ijson rich starlette truststore uvicorn")
    assert sorted(seen & unneeded) == []


def test_checking_imports_no_network(tmp_path: Path) -> None:
    """`check` sends nothing, keeps no journal, and imports neither client nor database."""
    (tmp_path / "a.ndjson").write_bytes(make_text("a"))
    seen = imported_by(["-m", PACKAGE, "check", "a.ndjson"], tmp_path)
    assert "msgspec" in seen, "the check was not watched"
    assert sorted(seen & words("authlib httpx rich sqlite3 starlette truststore uvicorn")) == []
