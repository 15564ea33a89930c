"""The SHA-256 of all that decides which versions pip may install: the Python version and the requirements of pyproject.toml."""

import hashlib
import json
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
names = ("requires-python", "dependencies", "optional-dependencies")
print(hashlib.sha256(json.dumps([project[name] for name in names], sort_keys=True).encode()).hexdigest())
