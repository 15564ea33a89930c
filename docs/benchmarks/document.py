"""A benchmark's result as one JSON document: the form of the files in `results/`.

A script offers ``--json FILE`` by `add_option` and writes the file by `save`. `results.py` makes RESULTS.md of all documents.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
UNKNOWN = "not recorded"
PACKAGES = ("torch", "timm", "numpy")  # whose versions decide the speed of most scripts


@dataclass(frozen=True)
class Document:
    """A table of figures and the facts that a reader needs to repeat it.

    `claim` is one sentence, `command` the lines to type. `seeds` are numbers, or words where there are none. Cells are text, so that
    the digits of a figure stay as they were written; a figure over several seeds reads ``mean ± standard deviation``.
    """

    title: str
    claim: str
    command: list[str]
    machine: str
    date: str
    seeds: list[int] | str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list[str])

    def problems(self) -> list[str]:
        """Return a sentence for each field that a page cannot show."""
        found = [
            f"{name} is empty" for name in ("title", "claim", "machine", "date", "seeds", "columns", "rows") if not getattr(self, name)
        ]
        if not self.command or not all(line.strip() for line in self.command):
            found.append(f"command names no line to type; write {UNKNOWN!r} if nobody knows it")
        if not re.fullmatch(r"[\w -]+", self.title):
            found.append(f"title {self.title!r} holds more than letters, digits, spaces and hyphens; links to it would break")
        if not self.claim.endswith(".") or ". " in re.sub("`[^`]*`", "", self.claim):
            found.append(f"claim {self.claim!r} is not one sentence that ends with a full stop")
        if self.date != UNKNOWN and not re.fullmatch(r"\d{4}-\d\d-\d\d", self.date):
            found.append(f"date {self.date!r} is neither YYYY-MM-DD nor {UNKNOWN!r}")
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        found += [f"row {row[:1]} has {len(row)} cells for {len(self.columns)} columns" for row in wrong]
        cells = [cell for row in [self.columns, *self.rows] for cell in row]
        if numbers := [cell for cell in cells if not isinstance(cell, str)]:
            found.append(f"cell {numbers[0]!r} is no text; write it in quotes, so that its digits stay")
        elif any("\n" in cell for cell in cells):
            found.append("a cell holds a line break")
        return found


def read(path: Path) -> Document:
    """Return the document in the file `path`; raises `ValueError` with the file's name and what is wrong in it."""
    known = {one.name for one in fields(Document)}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: no JSON: {error}") from error
    if content.keys() != known:
        raise ValueError(f"{path.name}: lacks {sorted(known - content.keys())}, has beyond the form {sorted(content.keys() - known)}")
    found = Document(**content)
    if problems := found.problems():
        raise ValueError(f"{path.name}: {'; '.join(problems)}")
    return found


def write(path: Path, document: Document) -> None:
    """Write `document` to the file `path`, a row of the table on a line of its own."""
    if problems := document.problems():
        raise ValueError(f"{path.name}: {'; '.join(problems)}")
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in asdict(document).items()}
    for name in ("command", "rows", "notes"):
        lines = [json.dumps(one, ensure_ascii=False) for one in getattr(document, name)]
        values[name] = "[\n    " + ",\n    ".join(lines) + "\n  ]" if lines else "[]"
    path.write_text("{\n  " + ",\n  ".join(f'"{name}": {value}' for name, value in values.items()) + "\n}\n", "utf-8")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the option ``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table as a document for docs/benchmarks/results")


def save(
    path: Path | None,
    title: str,
    claim: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    seeds: Sequence[int] | str = "none",
    notes: Sequence[str] = (),
    name: str = "",
) -> None:
    """Write a table with the command line, the machine and the date of this run to `path`; without a path do nothing.

    A script with several tables gives each a `name`, which is appended to the file's: ``x.json`` becomes ``x-NAME.json``.
    """
    if path is None:
        return
    target = path.with_stem(f"{path.stem}-{name}") if name else path
    document = Document(
        title=title,
        claim=claim,
        command=[command(sys.argv)],
        machine=machine(),
        date=str(datetime.now().astimezone().date()),
        seeds=seeds if isinstance(seeds, str) else list(seeds),
        columns=list(columns),
        rows=[list(row) for row in rows],
        notes=list(notes),
    )
    write(target, document)
    print(f"{target}: written", file=sys.stderr)


def command(argv: Sequence[str]) -> str:
    """Return the line to type for `argv`, without ``--json FILE``."""
    script = Path(argv[0]).resolve()
    kept: list[str] = []
    words = iter(argv[1:])
    for word in words:
        if word == "--json" and "--" not in kept:
            next(words, None)
        elif not word.startswith("--json="):
            kept.append(word)
    name = script.relative_to(HERE.parent.parent).as_posix() if script.is_relative_to(HERE) else script.name
    return typed(["python", name, *kept])


def typed(words: Sequence[str]) -> str:
    """Return `words` as one types them, an absolute path as its last part: folders of this machine tell a reader nothing."""
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)


def machine() -> str:
    """Describe processor, cores and versions in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    info = cpuinfo.read_text("utf-8") if cpuinfo.is_file() else ""
    model = found[1] if (found := re.search(r"model name\s*: (.*)", info)) else platform.processor() or platform.machine()
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{name}\b", info)]
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES if _is_installed(name)]
    cores = f"{os.cpu_count()} cores of {model}" + (f" ({', '.join(features)})" if features else "")
    return f"{cores}, {platform.system()}; Python {platform.python_version()}, {', '.join(versions)}"


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean ± standard deviation over the seeds, the mean alone of a single value."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def row(cells: Sequence[Any]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def head(columns: Sequence[str]) -> str:
    """Return the two lines that a Markdown table begins with."""
    return f"{row(columns)}\n|{'---|' * len(columns)}"


class Table:
    """A Markdown table that is printed row by row and kept for `save`."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns
        self.rows: list[tuple[str, ...]] = []
        print(head(columns), flush=True)

    def add(self, *cells: str) -> None:
        """Print and keep one row."""
        self.rows.append(cells)
        print(row(cells), flush=True)
