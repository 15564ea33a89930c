"""From results.jsonl to one table: ``python docs/benchmarks/peers/table.py WORK`` writes WORK/table.md and WORK/table.json again."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

Run = dict[str, Any]
COLUMNS = (
    "contender", "parameters", "accuracy, %", "val accuracy, %, at equal CPU-s", "trained s", "command s", "CPU-s",
    "CPU-s an epoch", "epochs", "peak memory, GB", "seeds",
)  # fmt: skip


def read(work: Path) -> list[Run]:
    """Return the runs that were finished, in the order they were."""
    path = work / "results.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation of a sample; the mean alone of a single value."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def epoch_cost(run: Run) -> float | None:
    """Return the CPU-seconds of an epoch, evaluation included: the mean of all but the first and the last, often cut short."""
    whole = [row[1] for row in run["history"][:-1]]
    return (whole[-1] - whole[0]) / (len(whole) - 1) if len(whole) > 1 else None


def reached(run: Run, cpu: float) -> float | None:
    """Return the best accuracy on val that was seen within `cpu` CPU-seconds of the command's start."""
    return max((row[2] for row in run["history"] if row[1] <= cpu and row[2] is not None), default=None)


def groups(runs: list[Run]) -> dict[tuple[str, float], dict[str, list[Run]]]:
    """Return (data set, budget) -> contender -> its runs, one per seed."""
    found: dict[tuple[str, float], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[run["data"], run["budget"]][run["contender"]].append(run)
    return found


def equal_cpu(contenders: dict[str, list[Run]]) -> float:
    """Return the CPU-seconds that every run had when its last epoch ended: the least of them."""
    return min((run["history"][-1][1] for runs in contenders.values() for run in runs if run["history"]), default=0.0)


def row(name: str, runs: list[Run], cpu: float) -> tuple[str, ...]:
    """Return the cells of one contender."""
    at_equal = [100 * value for run in runs if (value := reached(run, cpu)) is not None]
    costs = [value for run in runs if (value := epoch_cost(run)) is not None]
    return (
        name,
        f"{runs[0]['parameters']:,}" if runs[0]["parameters"] else "",
        spread([100 * run["accuracy"] for run in runs], 1),
        spread(at_equal if len(at_equal) == len(runs) else [], 1),
        spread([run["trained"] for run in runs], 0),
        spread([run["wall"] for run in runs], 0),
        spread([run["cpu"] for run in runs], 0),
        spread(costs, 1),
        spread([float(len(run["history"])) for run in runs], 0),
        f"{max(run['memory'] for run in runs) / 1e9:.2f}",
        ", ".join(str(run["seed"]) for run in runs),
    )


def section(contenders: dict[str, list[Run]]) -> list[str]:
    """Return the lines about one data set and budget, the most accurate first."""
    some, cpu = next(iter(contenders.values()))[0], equal_cpu(contenders)
    others = max(run["others"] for found in contenders.values() for run in found)
    ranked = sorted(contenders.items(), key=lambda item: -statistics.mean(run["accuracy"] for run in item[1]))
    return [
        f"{some['images']}. Equal CPU-s: {cpu:.0f}. Other processes took at most {others:.0f} CPU-s during a run.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row(name, found, cpu)) + " |" for name, found in ranked),
        *(f"\nNot run: {peer}: {why}." for peer, why in some["absent"].items()),
    ]


def markdown(runs: list[Run]) -> str:
    """Return the whole document."""
    lines = ["# cnnkit and its peers", ""]
    for machine in dict.fromkeys(run["machine"] for run in runs):
        lines += [f"Machine: {machine}.", ""]
    for (data, budget), contenders in groups(runs).items():
        lines += [f"## {data}, {budget:g} s", "", *section(contenders), ""]
    lines += ["## Versions and settings", ""]
    for run in {run["contender"]: run for run in runs}.values():
        names = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        lines += [f"- **{run['contender']}** ({names}), on {run['data']}: `{run['settings']}`"]
    return "\n".join(lines) + "\n"


def write(work: Path) -> str:
    """Write both files and return the document."""
    runs = read(work)
    text = markdown(runs)
    (work / "table.md").write_text(text, "utf-8")
    tables = [
        {
            "data": data,
            "budget": budget,
            "equal_cpu": equal_cpu(found),
            "rows": [dict(zip(COLUMNS, row(name, some, equal_cpu(found)), strict=True)) for name, some in found.items()],
        }
        for (data, budget), found in groups(runs).items()
    ]
    (work / "table.json").write_text(json.dumps({"tables": tables, "runs": runs}, indent=1) + "\n", "utf-8")
    return text


if __name__ == "__main__":
    print(write(Path(sys.argv[1])), end="")
