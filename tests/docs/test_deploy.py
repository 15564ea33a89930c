"""The files of docs/deploy: the requirements of the container are those of pyproject.toml, and the server needs no others."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "docs" / "deploy"
REQUIREMENTS = [line for line in (DEPLOY / "serve-requirements.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
LOADED = """
import sys
import onnxruntime, pebble
import cnnkit.serve.server, cnnkit.cli.serve, cnnkit.exporters.onnx, cnnkit.data.store.pool
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


def package(requirement: str) -> str:
    return re.split(r"[>=<~!\[; ]", requirement, maxsplit=1)[0].lower()


def with_dependencies(names: set[str]) -> set[str]:
    """Return the packages `names` and all that they need, without extras."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system
            continue
        waiting |= {package(each).replace("_", "-") for each in needed if "extra ==" not in each} - found
    return found


def test_the_bounds_of_the_container_are_those_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    bounds = {*project["dependencies"], *project["optional-dependencies"]["serve"]}
    assert REQUIREMENTS
    assert set(REQUIREMENTS) <= bounds
    assert set(project["optional-dependencies"]["serve"]) <= set(REQUIREMENTS)


def test_the_server_imports_only_packages_of_the_container() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=300, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    allowed = with_dependencies({package(each) for each in REQUIREMENTS})
    others = {package(each) for each in project["dependencies"]} - allowed
    assert {"torch", "timm"} <= others
    providers = metadata.packages_distributions()
    assert {"fastapi", "onnxruntime", "numpy"} <= loaded
    assert not {name for name in loaded if {each.lower().replace("_", "-") for each in providers.get(name, [])} & others}


def test_the_dockerfile_copies_files_that_exist_and_serves() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert (CHECKOUT / re.findall(r"docs/deploy/\S+\.txt", text)[0]).is_file()
    assert '"cnnkit", "serve", "--host", "0.0.0.0", "--model"' in text
    assert "--no-deps" in text


def test_the_dockerfile_installs_from_its_working_folder() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    copied = re.search(r"^WORKDIR /install\nCOPY (.+) \./$", text, re.MULTILINE)
    assert copied
    install = text[copied.end() : text.index("\nWORKDIR", copied.end())]
    for file in (Path(source).name for source in copied[1].split()):
        assert install.count(file) == 2, f"{file} is installed and removed"
    assert not re.search(r"(?<=\s)/[a-z]\S*", install), "the installation names an absolute path"
