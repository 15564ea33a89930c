"""Compare a wheel with the checkout: every file of the package is in it, and nothing else.

Usage: python .ci/check_wheel.py dist/cnnkit-*.whl
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMISED = ("cnnkit/py.typed", "cnnkit/config/recipes/default.toml", "cnnkit/config/recipes/case-study.toml")


def problems(wheel: Path) -> list[str]:
    """Return one sentence for each file that is missing from `wheel` or has no business in it."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "cnnkit").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    metadata = {name for name in packed if name.split("/")[0].endswith(".dist-info")}
    expected = sources | set(PROMISED)
    missing = [f"{wheel.name} lacks {name}" for name in sorted(expected - packed)]
    foreign = [f"{wheel.name} holds {name}, which is not of the package" for name in sorted(packed - expected - metadata)]
    licence = [] if any(name.endswith("/LICENSE") for name in metadata) else [f"{wheel.name} lacks the licence"]
    return missing + foreign + licence


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    print("\n".join(found) or f"{Path(sys.argv[1]).name}: complete")
    sys.exit(bool(found))
