"""The layout of the tests: those of cnnkit/data/split/split.py stand in tests/data/split/test_split.py."""

from __future__ import annotations

from pathlib import Path

import cnnkit

PACKAGE, TESTS = Path(cnnkit.__file__).parent, Path(__file__).parent
# Test files without a module of their own, with the reason; a folder stands for its files.
WITHOUT_MODULE = {
    "api/training/test_shards.py": "trainings on shards and parquet files, equal to that on the folder",
    "architectures/test_builtin_architectures.py": "all built-in architectures keep one contract",
    "cli/test_damaged_runs.py": "all commands that read a run, on damaged ones",
    "data/test_selection.py": "data/dataset.py before any image is decoded; its own file for its size",
    "data/test_thinned.py": "data/dataset.py when a learning curve takes a part of it; its own file for its size",
    "docs/": "the pages beside the code",
    "exporters/test_rules_in_onnx.py": "rules pass from the model file through the exported file to the predictions",
    "faults/": "saves and files of all rooms under faults of the machine",
    "gpu/": "commands of all rooms on a GPU",
    "hostile/": "files and packages that mean harm, given to the commands",
    "report/page/test_contrast.py": "the colours of the templates",
    "report/page/test_in_browser.py": "whole pages in a browser",
    "run_dir/test_documents.py": "all documents of a run, damaged field by field",
    "serve/test_in_browser.py": "the page of a running server in a browser",
    "test_language.py": "the prose of all rooms",
    "test_layers.py": "imports between all rooms",
    "test_mirror.py": "the layout of the tests",
    "test_packaging.py": "pyproject.toml and the installed package",
    "trackers/test_servers.py": "the clients of two servers, told the same",
}


def mirror_of(module: Path) -> Path:
    """``api/pages/run.py`` -> ``api/pages/test_run.py``."""
    return module.with_name(f"test_{module.name}")


MODULES = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
TEST_FILES = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}


def test_every_module_of_api_has_its_tests() -> None:
    api = {module for module in MODULES if module.parts[0] == "api"}
    assert len(api) > 20
    missing = sorted(f"tests/{mirror_of(module).as_posix()}" for module in api if mirror_of(module) not in TEST_FILES)
    assert not missing, f"write {', '.join(missing)}"


def test_every_test_file_is_named_after_its_module() -> None:
    mirrored = {mirror_of(module) for module in MODULES}
    names = {file.as_posix() for file in TEST_FILES - mirrored}
    lost = sorted(name for name in names if name not in WITHOUT_MODULE and f"{name.partition('/')[0]}/" not in WITHOUT_MODULE)
    assert not lost, f"tests/ has {', '.join(lost)}, and cnnkit/ no module of that name: rename or move them as their module is"


def test_every_exception_is_needed() -> None:
    mirrored = {mirror_of(module) for module in MODULES}
    for name in WITHOUT_MODULE:
        assert any(file.as_posix().startswith(name) for file in TEST_FILES), f"WITHOUT_MODULE names {name}, which is not there"
        assert Path(name) not in mirrored, f"WITHOUT_MODULE names {name}, which has a module"
