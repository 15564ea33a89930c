"""Who may import whom. The table is the plan of the house; the tests compare every file with it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cnnkit

PACKAGE = Path(cnnkit.__file__).parent
TORCH = {"torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript", "onnxruntime"}  # seconds to import, or made of tensors


@dataclass(frozen=True)
class Room:
    """What the files of one room may import beside the standard library and each other, as words.

    `rooms` and `packages` at the top of a file; `rooms_inside` and `packages_inside` also, but only inside a function,
    because loading them takes long. Under ``if TYPE_CHECKING:`` any package is free, and the rooms further up the table;
    `rooms_as_types` adds to those.
    """

    rooms: str = ""
    packages: str = ""
    rooms_inside: str = ""
    packages_inside: str = ""
    rooms_as_types: str = ""


# A room may import only rooms that stand above it. A new file or folder at the top of cnnkit/ needs a row here.
LIGHT = {
    # plain values and rules
    "errors": Room(),
    "files": Room(rooms="errors"),
    "architecture": Room(rooms="errors"),
    "extension": Room(rooms="errors"),
    # the public names, all that a stranger's plugin may import; what costs torch is loaded when it is first used
    "cnnkit": Room(rooms="errors architecture extension", rooms_as_types="model api"),
    "config": Room(rooms="errors files architecture", packages="pydantic", packages_inside="tomli_w"),
    # what is installed, what is on the disk
    "registry": Room(rooms="errors architecture extension"),
    "model.preprocessing": Room(rooms="architecture", packages="pydantic"),
    "model.canvas": Room(rooms="model.preprocessing", packages="numpy"),
    "model.facts": Room(rooms="errors files"),
    "run_dir": Room(rooms="errors files config model.preprocessing", packages="pydantic", packages_inside="psutil"),
    # the search for settings: its space, its storage and its workers, without torch, so that a command line is refused at once;
    # optuna takes a second to load, and is an extra
    "tuning": Room(rooms="errors files architecture config run_dir", packages="pydantic", packages_inside="optuna sqlalchemy"),
    # counts, their meaning and their picture: no torch, not even inside a function
    "metrics": Room(rooms="errors", packages="numpy sklearn", packages_inside="scipy"),
    "speed": Room(rooms="errors", packages="psutil"),
    "report.terminal.console": Room(packages="rich"),
    # the ranks of a training as the environment tells them, and their start; torch is loaded by the start
    "engine.rank_environment": Room(rooms="errors"),
}
HEAVY = {
    "speed.stopwatch": Room(rooms="speed", packages="psutil torch"),
    # a trained model: its file, its preprocessing, its predictions
    "model": Room(
        rooms="errors files architecture registry metrics model.preprocessing model.canvas model.facts",
        packages="numpy torch pydantic safetensors",
        packages_inside="timm",
        rooms_as_types="exporters",
    ),
    # networks, built with what every plugin has
    "architectures": Room(rooms="cnnkit", packages="torch annotated_types", packages_inside="timm"),
    "extension.results": Room(rooms="extension", packages="numpy torch"),
    "extension.contract": Room(rooms="errors architecture extension extension.results", packages="numpy torch"),
    "testing": Room(rooms="errors architecture extension.contract", packages="torch"),
    # images in: siblings that do not know each other and meet in api
    "data": Room(  # what the doctor needs of it loads no torch: see the test at the end
        rooms="errors files config registry model model.preprocessing model.canvas",
        packages="numpy PIL torch platformdirs pebble psutil threadpoolctl",
        packages_inside="sklearn scipy torchvision datasets pillow_heif",
    ),
    # what is wrong with the images, by what data knows of them; no torch either
    "doctor": Room(rooms="errors config registry metrics data", packages="numpy", packages_inside="sklearn"),
    "engine": Room(rooms="errors files config metrics engine.rank_environment", packages="numpy torch", packages_inside="timm"),
    "trackers": Room(rooms="errors registry", packages_inside="torch tensorboard mlflow wandb"),  # who else is told of a training
    "exporters": Room(
        rooms="errors files registry metrics model model.preprocessing model.canvas",
        packages="numpy torch PIL",
        packages_inside="onnx onnxruntime sklearn",
    ),
    "explain": Room(rooms="errors registry model", packages="numpy torch", packages_inside="scipy"),
    # tables, pictures and pages, made without torch
    "report": Room(
        rooms="errors files metrics speed report.terminal.console",
        packages="numpy rich matplotlib jinja2 PIL",
        rooms_as_types="doctor explain",
    ),
    # the composition: prints nothing; the pictures it leaves in the run directory are drawn by report
    "api": Room(
        rooms="errors files architecture extension extension.results extension.contract config registry run_dir metrics speed "
        "speed.stopwatch model model.facts model.preprocessing model.canvas testing data doctor engine engine.rank_environment trackers "
        "explain exporters tuning",
        packages="numpy torch",
        rooms_inside="report",
    ),
}
FACE = {
    # HTTP instead of the command line; what runs in it loads no torch: see the test at the end
    "serve": Room(
        rooms="errors files config model.preprocessing model.canvas model data exporters report api",
        packages="numpy fastapi starlette uvicorn pydantic multipart prometheus_client",
        packages_inside="pebble",
    ),
    # the command line: light until a command runs, then it asks api and shows what report makes of the answer
    "cli": Room(
        rooms="errors files architecture config registry run_dir report.terminal.console",
        packages="typer rich pydantic",
        # data: the cache is looked at without torch; engine: the command line starts and joins the ranks of a training
        rooms_inside="report model data tuning engine engine.rank_environment api serve",
        packages_inside="pyarrow",
        rooms_as_types="doctor metrics speed",
    ),
    "__main__": Room(rooms="cli"),
}
ROOMS = LIGHT | HEAVY | FACE


@dataclass(frozen=True)
class Import:
    """One name that a file imports: `target` is a room of cnnkit or a package; `where` is top, inside or types."""

    target: str
    own: bool  # a room of cnnkit, not a package
    where: str
    line: int
    module: str = ""  # of cnnkit, dotted


FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room_of(dotted: str) -> str:
    """Return the row that covers the module `dotted`, a name below cnnkit: the longest that fits, else its first word."""
    parts = dotted.split(".")
    rows = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((row for row in rows if row in ROOMS), parts[0])


def module_name(file: Path) -> str:
    """``data/split.py`` -> ``data.split``; the package's own file is ``cnnkit``."""
    parts = [*file.parent.parts, *([] if file.stem == "__init__" else [file.stem])]
    return ".".join(parts) or "cnnkit"


def imports_of(file: Path) -> Iterator[Import]:
    """Yield every import statement of `file`, wherever it stands."""
    tree = ast.parse((PACKAGE / file).read_text("utf-8"))
    return _walk(tree, "top")


def _walk(node: ast.AST, where: str) -> Iterator[Import]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        where = "inside"
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        where = "types"
    if isinstance(node, ast.Import):
        yield from (_resolve(alias.name, where, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: write the full name of the module, from cnnkit..., not a relative one"
        module = node.module or ""
        names = [_defined_in(alias.name) if module == "cnnkit" else _submodule(module, alias.name) for alias in node.names]
        yield from (_resolve(name, where, node.lineno) for name in dict.fromkeys(names))
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, where)


def _defined_in(public: str) -> str:
    """Return the module that ``from cnnkit import public`` loads."""
    if (PACKAGE / public).is_dir() or (PACKAGE / f"{public}.py").is_file():
        return f"cnnkit.{public}"
    return cnnkit._LAZY.get(public, "cnnkit")


def _submodule(module: str, name: str) -> str:
    """Return the module that ``from module import name`` loads last: `name` itself if it is a module of cnnkit."""
    path = PACKAGE.parent.joinpath(*module.split("."), name)
    return f"{module}.{name}" if module.startswith("cnnkit.") and (path.is_dir() or path.with_suffix(".py").is_file()) else module


def _resolve(module: str, where: str, line: int) -> Import:
    top, _, rest = module.partition(".")
    if top != "cnnkit":
        return Import(top, own=False, where=where, line=line)
    return Import(room_of(rest) if rest else "cnnkit", own=True, where=where, line=line, module=rest or "cnnkit")


def complaint(room: str, found: Import) -> str | None:
    """Return why a file of `room` may not hold the import `found`, or None."""
    row, name = ROOMS[room], found.target
    if found.own:
        above = list(ROOMS)[: list(ROOMS).index(room)]
        here, later = row.rooms.split(), row.rooms_inside.split()
        allowed = {"top": here, "inside": here + later, "types": above + row.rooms_as_types.split()}[found.where]
        if name == room or name in allowed:
            return None
    else:
        here, later = row.packages.split(), row.packages_inside.split()
        if found.where == "types" or name in sys.stdlib_module_names or name in here or (found.where == "inside" and name in later):
            return None
    if name in later:
        return f"line {found.line}: import {name} inside the function that needs it; at the top it slows down all who import this file"
    kind = "cnnkit." if found.own and name != "cnnkit" else ""
    return f"line {found.line}: room {room!r} may not import {kind}{name}; see the table in tests/test_layers.py for what it may"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.as_posix())
def test_file_imports_only_what_its_room_may(file: Path) -> None:
    room = room_of(module_name(file))
    if room not in ROOMS:
        pytest.fail(
            f"cnnkit/{file.as_posix()} stands in no room: add a row for {room!r} to the table in tests/test_layers.py", pytrace=False
        )
    complaints = [text for found in imports_of(file) if (text := complaint(room, found))]
    if complaints:
        pytest.fail("\n".join([f"cnnkit/{file.as_posix()}", *complaints]), pytrace=False)


def test_every_row_of_the_table_has_files_and_names_rooms_above_it() -> None:
    lived_in = {room_of(module_name(file)) for file in FILES}
    for index, (name, row) in enumerate(ROOMS.items()):
        assert name in lived_in, f"row {name!r}: cnnkit/ has no such file or folder; remove the row"
        strangers = {*row.rooms.split(), *row.rooms_inside.split()} - set(list(ROOMS)[:index])
        assert not strangers, f"row {name!r} names {strangers}, which do not stand above it"


MAX_ROOMS, MAX_API_ROOMS, MAX_MODULES = 25, 10, 14
LARGE_ROOMS = {"cli", "metrics", "engine", "report/pictures"}  # one file per command, per metric, per step of the loop, per picture
ROOT = {"__init__", "__main__", "errors", "architecture", "testing"}


def test_the_house_has_few_rooms_with_few_modules_each() -> None:
    folders: dict[str, set[str]] = {}
    for file in FILES:
        folders.setdefault(file.parent.as_posix(), set()).add(file.stem)
    top = {file.parts[0] for file in FILES}
    assert len(top) <= MAX_ROOMS, sorted(top)
    assert folders["."] == ROOT
    assert len({file.parts[1] for file in FILES if file.parts[0] == "api" and len(file.parts) > 2}) <= MAX_API_ROOMS
    full = {name: len(modules - {"__init__"}) for name, modules in folders.items() if len(modules - {"__init__"}) > MAX_MODULES}
    assert full.keys() <= LARGE_ROOMS, f"split or merge: {full}"


MAX_API_LINES = 60  # of a function of api, with its docstring: one screen


def test_no_function_of_api_is_longer_than_a_screen() -> None:
    long = {
        f"{file.as_posix()}: {node.name}": node.end_lineno - node.lineno + 1
        for file in FILES
        if file.parts[0] == "api"
        for node in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None and node.end_lineno - node.lineno >= MAX_API_LINES
    }
    assert not long


def test_no_module_imports_itself_through_others() -> None:
    """Imports for types count too: a cycle means that neither module can be understood first."""
    graph = {module_name(file): {found.module for found in imports_of(file) if found.own} for file in FILES}
    graph.pop("cnnkit")  # the public names, which load the rest when they are used
    try:
        TopologicalSorter({name: targets - {"cnnkit", name} for name, targets in graph.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]), pytrace=False)


def test_the_rooms_of_api_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for file in FILES:
        if file.parts[0] == "api" and len(file.parts) > 2:
            targets = {found.module.split(".")[1] for found in imports_of(file) if found.module.startswith("api.")}
            graph.setdefault(file.parts[1], set()).update(targets - {file.parts[1]})
    TopologicalSorter(graph).prepare()


def test_light_rooms_name_no_heavy_package() -> None:
    for name, row in LIGHT.items():
        heavy = {*row.packages.split(), *row.packages_inside.split()} & TORCH
        assert not heavy, f"row {name!r} is light and must not name {heavy}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch", "room 'metrics' may not import torch"),
        ("def f():\n    import torch", "room 'metrics' may not import torch"),
        ("from cnnkit.engine.fit import fit", "room 'metrics' may not import cnnkit.engine"),
        ("from cnnkit import train", "room 'metrics' may not import cnnkit.api"),
        ("from cnnkit import errors", None),
        ("if TYPE_CHECKING:\n    import torch", None),
        ("if TYPE_CHECKING:\n    from cnnkit.cli.app import main", "room 'metrics' may not import cnnkit.cli"),
        ("try:\n    import numpy\nexcept ImportError:\n    import torch", "room 'metrics' may not import torch"),
    ],
)
def test_the_walk_sees_forbidden_imports(source: str, expected: str | None) -> None:
    complaints = [text for found in _walk(ast.parse(source), "top") if (text := complaint("metrics", found))]
    assert len(complaints) == (expected is not None)
    assert expected is None or expected in complaints[0]


def test_heavy_import_at_the_top_of_a_command_is_told_where_to_go() -> None:
    (found,) = _walk(ast.parse("from cnnkit import api"), "top")
    assert "inside the function that needs it" in (complaint("cli", found) or "")
    (found,) = _walk(ast.parse("def train():\n    from cnnkit import api"), "top")
    assert complaint("cli", found) is None


@cache
def loaded_after(statements: str) -> set[str]:
    """Run `statements` in a new interpreter and return the top-level packages it has loaded at the end."""
    script = f"import sys\n{statements}\nprint('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["train", "--help"], ["archs"], ["archs", "show", "--help"]], ids=" ".join)
def test_looking_around_loads_no_torch(command: list[str]) -> None:
    loaded = loaded_after(f"from cnnkit.cli.app import main\nassert main({command!r}) == 0")
    assert "typer" in loaded
    assert loaded & TORCH == set()


def test_runs_and_info_load_no_torch(trained) -> None:
    lines = f"assert main(['runs']) == 0\nassert main(['info', {str(trained.run)!r}]) == 0"
    assert loaded_after(f"from cnnkit.cli.app import main\n{lines}") & TORCH == set()


def test_records_of_runs_are_read_without_numpy() -> None:
    """It takes longer to load than all the files of a run to read."""
    assert "numpy" not in loaded_after("import cnnkit.run_dir, cnnkit.api.inference.runs")


def test_importing_cnnkit_loads_no_package_but_itself() -> None:
    loaded = loaded_after("import cnnkit; cnnkit.Architecture; cnnkit.CnnkitError")
    assert loaded & (TORCH | {"numpy", "pydantic", "rich", "typer", "sklearn", "matplotlib"}) == set()


def test_light_rooms_load_no_torch() -> None:
    modules = [module_name(file) for file in FILES if room_of(module_name(file)) in LIGHT and module_name(file) != "cnnkit"]
    lines = "\n".join(f"import cnnkit.{module}" for module in modules)
    assert loaded_after(lines) & TORCH == set()


def test_looking_at_data_loads_no_torch(image_folder) -> None:
    folder = image_folder(["ants", "bees"], images=4)
    commands = [["doctor", str(folder)], ["split", str(folder)], ["cache"]]
    lines = "\n".join(f"assert main({command!r}) == 0" for command in commands)
    assert loaded_after(f"from cnnkit.cli.app import main\n{lines}") & TORCH == set()


def test_predict_on_an_exported_file_loads_no_torch(trained, trained_export) -> None:
    command = ["predict", str(trained.data), "--model", str(trained_export), "--json"]
    loaded = loaded_after(f"from cnnkit.cli.app import main\nassert main({command!r}) == 0")
    assert "onnxruntime" in loaded
    assert loaded & (TORCH - {"onnxruntime"} | {"sklearn", "scipy"}) == set()


def test_the_server_loads_no_torch() -> None:
    loaded = loaded_after("import cnnkit.serve.server, cnnkit.cli.serve, cnnkit.exporters.onnx_session")
    assert {"fastapi", "uvicorn"} <= loaded
    assert loaded & (TORCH | {"sklearn", "scipy", "matplotlib"}) == set()


def test_a_command_loads_no_other_command() -> None:
    script = "from cnnkit.cli.app import main\nmain(['runs'])\nprint('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys\n{script}"], capture_output=True, text=True, timeout=60, check=True)
    modules = done.stdout.rpartition("LOADED")[2].split()
    assert "cnnkit.cli.runs" in modules
    assert not {"cnnkit.cli.train", "cnnkit.cli.predict"} & set(modules)
