"""A virtual environment per peer, made once and kept.

Every peer gets the newest version of itself at the time of writing, and those that stand on torch the torch that cnnkit has here:
what is compared is how it is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

TIMM = "1.0.28"  # train.py is no part of the package: the script must be that of the same version
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "keras": ("tensorflow==2.21.0", "keras==3.15.1"),
    "timm": (f"timm=={TIMM}", "torch", "torchvision"),
    "ultralytics": ("ultralytics==8.4.190", "torch", "torchvision"),
}
NEEDED = {"keras": 2.5, "timm": 6.5, "ultralytics": 6.5}  # GB on the disk; measured with torch's CUDA build
_VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({"python": sys.version.split()[0], **{name: version(name) for name in sys.argv[1:]}}))
"""


def environment(peer: str, work: Path) -> Path:
    """Return the folder of the peer's environment, ``WORK/env-PEER``."""
    return work / f"env-{peer}"


def python_of(peer: str, work: Path) -> str:
    """Return the interpreter that runs the peer; cnnkit's is the one that runs this script."""
    return sys.executable if peer == "cnnkit" else str(environment(peer, work) / ("Scripts" if os.name == "nt" else "bin") / "python")


def is_ready(peer: str, work: Path) -> bool:
    """Whether nothing is left to install."""
    stamp = environment(peer, work) / "installed.json"
    return peer == "cnnkit" or (stamp.is_file() and json.loads(stamp.read_text("utf-8")) == _requirements(peer))


def prepare(peer: str, work: Path) -> None:
    """Make the environment unless it is ready; raises `CalledProcessError` if pip fails."""
    if is_ready(peer, work):
        return
    folder, requirements = environment(peer, work), _requirements(peer)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run([python_of(peer, work), "-m", "pip", "install", "--quiet", *requirements], check=True)
    (folder / "installed.json").write_text(json.dumps(requirements), "utf-8")


def versions(peer: str, work: Path) -> dict[str, str]:
    """Return Python's version and those of the packages that were asked for."""
    names = ["cnnkit", "torch", "timm"] if peer == "cnnkit" else [name.partition("==")[0] for name in REQUIREMENTS[peer]]
    answer = subprocess.run([python_of(peer, work), "-c", _VERSIONS, *names], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def _requirements(peer: str) -> list[str]:
    return [name if "==" in name else f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS[peer]]
