"""RESULTS.md, made of the JSON documents in `results/`.

    python docs/benchmarks/results.py            # writes RESULTS.md
    python docs/benchmarks/results.py --check    # exits with 1 if RESULTS.md is not the page that the documents make

`document.py` has the form of a document. A file is named GROUP-NAME.json; the page has the groups in the order of `GROUPS`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from document import HERE, Document, head, read, row

GROUPS = ("training", "peers", "evaluation", "intervals", "comparison", "calibration", "uncertain", "explain", "export", "data", "doctor")
INTRODUCTION = """\
# Results

This page is made by `python docs/benchmarks/results.py` from the documents in `docs/benchmarks/results`. Edit those.

- A figure with ± is mean ± standard deviation over the seeds.
- The date is that of the commit which brought the figures, or of the run that wrote the document.
- "Not recorded" marks a fact that nobody wrote down.
- Seconds and memory depend on the machine. Compare only figures that were measured together.

[README.md](README.md) names the data sets and says how to run the scripts. [LOG.md](LOG.md) holds the history.
"""


def page(documents: Sequence[Document]) -> str:
    """Return RESULTS.md: a table of all claims, then a section for each document."""
    claims = [row([f"[{one.title}](#{anchor(one.title)})", one.claim]) for one in documents]
    overview = "\n".join([head(["result", "claim"]), *claims])
    return "\n".join([INTRODUCTION, f"{overview}\n", *map(section, documents)])


def section(document: Document) -> str:
    """Return the section of one document."""
    table = "\n".join([head(document.columns), *(row(cells) for cells in document.rows)])
    seeds = document.seeds if isinstance(document.seeds, str) else ", ".join(map(str, document.seeds))
    facts = [f"Machine: {document.machine}.", f"Date: {document.date}. Seeds: {seeds}.", *document.notes]
    commands = "\n".join(f"$ {line}" for line in document.command)
    return "\n\n".join(
        [f"## {document.title}", document.claim, table, "\n".join(f"- {fact}" for fact in facts), f"```console\n{commands}\n```\n"]
    )


def anchor(title: str) -> str:
    """Return the anchor of a heading of letters, digits, spaces and hyphens."""
    return title.lower().replace(" ", "-")


def documents(folder: Path) -> list[Document]:
    """Return the documents of `folder` group by group; raises `ValueError` if one is damaged or in no group, or two share a title."""
    paths = sorted(folder.glob("*.json"))
    if strange := [path.name for path in paths if group(path) not in GROUPS]:
        raise ValueError(f"{', '.join(strange)}: the name begins with none of the groups {', '.join(GROUPS)}")
    found = [read(path) for path in sorted(paths, key=lambda path: GROUPS.index(group(path)))]
    titles = [one.title for one in found]
    if twice := sorted({title for title in titles if titles.count(title) > 1}):
        raise ValueError(f"{folder.name}: more than one document has the title {', '.join(map(repr, twice))}")
    return found


def group(path: Path) -> str:
    """Return the first word of a file's name."""
    return path.stem.partition("-")[0]


def main() -> int:
    """Write the page, or check it; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if RESULTS.md is not current")
    parser.add_argument("--folder", type=Path, default=HERE, help="folder of results/ and RESULTS.md (default: this script's)")
    given = parser.parse_args()
    target = given.folder / "RESULTS.md"
    try:
        text = page(documents(given.folder / "results"))
    except ValueError as error:
        sys.exit(str(error))
    if not given.check:
        target.write_text(text, "utf-8")
    elif not target.is_file() or target.read_text("utf-8") != text:
        sys.exit(f"{target.name} is not made of the documents in results/: run python docs/benchmarks/results.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
