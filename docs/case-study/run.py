"""The trainings behind docs/case-study.md, their figures and the page's tables.

    python docs/case-study/run.py --work WORK --cifar cifar10.tar.xz --fashion /usr/share/datasets/fashion-mnist
    python docs/case-study/run.py --work WORK --cifar cifar10.tar.xz --fashion FOLDER --full
    python docs/case-study/run.py --page             # writes the tables of results.json into the page

The cifar10 archive or folder holds train and test folders of class folders. The Fashion-MNIST folder holds the four idx files of
Debian's package dataset-fashion-mnist. Each training is a ``cnnkit train`` in a process of its own, and WORK/jobs.jsonl gets a line
for it. A second call of the same command runs only what is missing.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from document import head, machine, spread
from document import row as table_row

HERE = Path(__file__).resolve().parent
PAGE, RESULTS, PICTURES = HERE.parent / "case-study.md", HERE / "results.json", HERE.parent / "images"
SETS = ("cifar10", "fashion-mnist")
ARCHITECTURES = ("custom-cnn", "deep-cnn-8", "deep-cnn-14", "residual-cnn")
DEPTHS = {"custom-cnn": 4, "deep-cnn-8": 8, "deep-cnn-14": 14}  # layers with weights
RATES = ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2")
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
PATIENCE = 5  # of the recipe case-study
IDX_HEADER = {"images": 16, "labels": 8}  # bytes before the values of an idx file


@dataclass(frozen=True)
class Scale:
    """The size of the study: images of each class in train, val and test, epochs of each section, and seeds of all sections but the gap."""

    train: int
    val: int
    test: int
    gap: int
    architectures: int
    rates: int
    stopping: int
    seeds: int


SMALL = Scale(train=200, val=100, test=200, gap=25, architectures=8, rates=6, stopping=40, seeds=1)
FULL = Scale(train=4500, val=500, test=1000, gap=25, architectures=25, rates=6, stopping=60, seeds=3)


@dataclass(frozen=True)
class Training:
    """One training of the study: the section that needs it, images, architecture, further flags, and seed."""

    section: str
    data: str
    arch: str
    flags: tuple[str, ...]
    epochs: int
    seed: int

    @property
    def key(self) -> str:
        """The name of the training in WORK/jobs.jsonl."""
        return json.dumps([self.data, self.arch, self.flags, self.epochs, self.seed])


def main() -> int:
    """Run what is missing, write results.json and the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="run nothing; write the tables of results.json into the page")
    parser.add_argument("--work", type=Path, help="folder of images, runs and jobs.jsonl")
    parser.add_argument("--cifar", type=Path, help="archive or folder of CIFAR-10")
    parser.add_argument("--fashion", type=Path, help="folder of the idx files of Fashion-MNIST")
    parser.add_argument("--full", action="store_true", help="all images: many hours of 2 cores")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the trainings of the gap (default: 3)")
    given = parser.parse_args()
    if not given.page:
        if None in {given.work, given.cifar, given.fashion}:
            parser.error("needs --work, --cifar and --fashion")
        scale = FULL if given.full else SMALL
        prepare(given.work, given.cifar, given.fashion, scale)
        study(given.work, scale, given.seeds)
    PAGE.write_text(page(PAGE.read_text("utf-8"), json.loads(RESULTS.read_text("utf-8"))), "utf-8")
    return 0


# ---- images ---------------------------------------------------------------------------------------------------------------


def prepare(work: Path, cifar: Path, fashion: Path, scale: Scale) -> None:
    """Write the images of the study as WORK/cifar10 and WORK/fashion-mnist, unless they are there."""
    for name, files in (("cifar10", lambda: _cifar(cifar)), ("fashion-mnist", lambda: _fashion(fashion))):
        folder = work / name
        if (folder / "complete").is_file():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        _write(folder / "images", files(), scale)
        (folder / "complete").touch()


def _write(folder: Path, files: Iterator[tuple[str, str, str, bytes]], scale: Scale) -> None:
    """Write the first files of each class, in an order that depends on the content alone."""
    by_class: dict[tuple[str, str], list[tuple[str, str, bytes]]] = {}
    for split, label, name, content in files:
        by_class.setdefault((split, label), []).append((hashlib.sha256(content).hexdigest(), name, content))
    for (split, label), found in by_class.items():
        found.sort()
        parts = {"test": found[: scale.test]}
        if split == "train":
            parts = {"train": found[: scale.train], "val": found[scale.train : scale.train + scale.val]}
        for part, kept in parts.items():
            target = folder / part / label
            target.mkdir(parents=True)
            for _, name, content in kept:
                (target / name).write_bytes(content)


def _cifar(path: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield split, class, name and content of each file of an archive or folder."""
    if path.is_dir():
        for file in sorted(path.glob("*/*/*")):
            yield file.parts[-3], file.parts[-2], file.name, file.read_bytes()
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)):
                split, label, name = member.name.split("/")[-3:]
                yield split, label, name, content.read()


def _fashion(folder: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield split, class, name and content, as PNG, of each image of the idx files."""
    import io

    import numpy as np
    from PIL import Image

    for split, stem in (("train", "train"), ("test", "t10k")):
        images = np.frombuffer(_idx(folder, f"{stem}-images-idx3-ubyte", "images"), np.uint8).reshape(-1, 28, 28)
        labels = _idx(folder, f"{stem}-labels-idx1-ubyte", "labels")
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "png")
            yield split, FASHION[label], f"{index:05d}.png", buffer.getvalue()


def _idx(folder: Path, name: str, kind: str) -> bytes:
    packed = folder / f"{name}.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.is_file() else (folder / name).read_bytes()
    return content[IDX_HEADER[kind] :]


# ---- trainings ------------------------------------------------------------------------------------------------------------


def plan(scale: Scale, seeds: int) -> list[Training]:
    """Return the trainings of the study: the gap with `seeds` seeds, the other sections with those of the `scale`."""
    jobs: list[Training] = []
    for seed in range(seeds):
        for data in SETS:
            for augment in ((), ("--augment", "none")):
                for dropout in ("0.5", "0"):
                    flags = (*augment, "--set", f"dropout={dropout}", "--patience", "0")
                    jobs.append(Training("gap", data, "custom-cnn", flags, scale.gap, seed))
    for seed in range(scale.seeds):
        jobs += [
            Training("rates", "cifar10", arch, ("--lr", rate, "--patience", "0"), scale.rates, seed) for arch in DEPTHS for rate in RATES
        ]
        jobs += [Training("stopping", data, "custom-cnn", ("--patience", "0"), scale.stopping, seed) for data in SETS]
        jobs += [Training("architectures", data, arch, (), scale.architectures, seed) for data in SETS for arch in ARCHITECTURES]
    return jobs


def study(work: Path, scale: Scale, seeds: int) -> None:
    """Run the trainings that jobs.jsonl lacks, and write results.json."""
    lines = work / "jobs.jsonl"
    done = {row["key"]: row for row in map(json.loads, lines.read_text("utf-8").splitlines())} if lines.is_file() else {}
    jobs = plan(scale, seeds)
    for number, job in enumerate(jobs, 1):
        if job.key in done:
            continue
        row = {"key": job.key, **asdict(job), **train(work, job)}
        done[job.key] = row
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        name = " ".join([job.section, job.data, job.arch, *job.flags])
        print(f"{number} of {len(jobs)}: {name} seed {job.seed}: {outcome(row)}", flush=True)
    rates = {arch: suggestion(work, arch) for arch in DEPTHS}
    rows = [done[job.key] for job in jobs]
    pictures(work, next(row for row in rows if (row["section"], row["arch"], row["data"]) == ("architectures", "residual-cnn", "cifar10")))
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    found = {
        **known,  # keras_fit.py writes a part of it
        "scale": asdict(scale),
        "seeds": seeds,
        "suggested": rates,
        "machine": machine(),
        "rows": [_public(row) for row in rows],
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def outcome(row: dict[str, Any]) -> str:
    """Describe a training in a few words."""
    return row["failed"] or f"val {100 * row['val']['value']:.1f} %"


def train(work: Path, job: Training) -> dict[str, Any]:
    """Train and evaluate once; a training that fails has its reason instead of figures."""
    before = children_cpu()
    ended = run_cnnkit(work, "train", "--data", str(work / job.data / "images"), "--arch", job.arch, "--recipe", "case-study",
                    "--epochs", str(job.epochs), "--seed", str(job.seed), "--out", str(work / "runs"), *job.flags, "--json")  # fmt: skip
    used = children_cpu() - before
    if ended.returncode:
        reason = next((line for line in reversed(ended.stderr.splitlines()) if line.strip()), f"exit code {ended.returncode}")
        return {"failed": reason.strip(), "cpu": used}
    run = Path(json.loads(ended.stdout)["run"])
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        history = [{name: float(row[name]) for name in ("train_accuracy", "val_accuracy", "val_loss")} for row in csv.DictReader(file)]
    # Each split is measured by the kept model without augmentation and dropout, so that the gap compares like with like.
    splits = {split: result_of(work, "eval", "--model", str(run), "--split", split)["accuracy"] for split in ("train", "val", "test")}
    return {"failed": "", "cpu": used, "run": run.name, "history": history, **splits}


def suggestion(work: Path, arch: str) -> float | None:
    """Return the rate that the range test suggests on CIFAR-10, None if it suggests none."""
    ended = run_cnnkit(work, "lr-find", "--data", str(work / "cifar10" / "images"), "--arch", arch, "--recipe", "case-study",
                    "--out", str(work / f"lr-find-{arch}.png"), "--json")  # fmt: skip
    return json.loads(ended.stdout).get("suggestion") if ended.returncode == 0 else None


def pictures(work: Path, row: dict[str, Any]) -> None:
    """Write the confusion matrix and the explained images of a run beside the page."""
    run = work / "runs" / row["run"]
    shutil.copy(run / "eval" / "test" / "confusion.png", PICTURES / "case-study-confusion.png")
    folders = [work / "cifar10" / "images" / "test" / label for label in ("automobile", "dog", "horse", "ship")]
    images = [min(folder.iterdir()) for folder in folders]
    out = work / "explain"
    result_of(work, "explain", *map(str, images), "--model", str(run), "--out", str(out))
    shutil.copy(out / "sheet.png", PICTURES / "case-study-explain.png")


def result_of(work: Path, *arguments: str) -> dict[str, Any]:
    """Return the JSON document of a command; ends this script with the command's messages if it fails."""
    ended = run_cnnkit(work, *arguments, "--json")
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout)


def run_cnnkit(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the cache of WORK."""
    environment = {**os.environ, "CNNKIT_CACHE": str(work / "cache")}
    return subprocess.run([sys.executable, "-m", "cnnkit", *arguments], capture_output=True, text=True, check=False, env=environment)


def children_cpu() -> float:
    """Return the CPU-seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _public(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in {"key", "run"}}
    if "history" in kept:
        kept["history"] = [{name: round(value, 4) for name, value in epoch.items()} for epoch in kept["history"]]
    return {**kept, "cpu": round(kept["cpu"], 1)}


# ---- tables ---------------------------------------------------------------------------------------------------------------


def page(text: str, results: dict[str, Any]) -> str:
    """Return the page with each table between ``<!-- table: NAME -->`` and ``<!-- end -->`` made of the results."""
    tables = {name: make(results) for name, make in TABLES.items()}

    def filled(found: re.Match[str]) -> str:
        return f"{found[1]}\n{tables[found[2]]}\n<!-- end -->"

    return re.sub(r"(<!-- table: ([\w-]+) -->)\n.*?<!-- end -->", filled, text, flags=re.DOTALL)


def architectures(results: dict[str, Any]) -> str:
    """Return a row of each set and architecture: test accuracy, epochs and CPU-seconds."""
    rows: list[list[str]] = []
    for (data, arch), found in _groups(results, "architectures", lambda row: (row["data"], row["arch"])):
        test = spread([100 * row["test"]["value"] for row in found], 1)
        rows.append(
            [
                data,
                arch,
                f"{test} %",
                spread([len(row["history"]) for row in found], 1),
                f"{statistics.mean(row['cpu'] for row in found):.0f}",
            ]
        )
    return _table(["images", "architecture", "test accuracy", "epochs", "CPU-s"], rows)


def gap(results: dict[str, Any]) -> str:
    """Return a row of each cell of augmentation × dropout: the gap of the kept epoch and of the last one, and the rise of the val loss."""
    rows: list[list[str]] = []
    cells = dict(_groups(results, "gap", _cell))
    for (data, augmented, dropout), found in sorted(cells.items()):
        train, val = ([100 * row[split]["value"] for row in found] for split in ("train", "val"))
        kept, last = [_gap(row) for row in found], [_last_gap(row) for row in found]
        rise = [_rise(row) for row in found]
        name = "flip, rotate, zoom" if augmented else "none"
        rows.append([data, name, dropout, *(spread(values, 1) for values in (train, val, kept, last)), spread(rise, 2)])
    columns = ["images", "augmentation", "dropout", "train %", "val %", "gap", "gap of the last epoch", "rise of val loss"]
    return _table(columns, rows)


def intervals(results: dict[str, Any]) -> str:
    """Return a row of each set: how augmentation and dropout change gap, val loss and val accuracy, paired over the seeds."""
    rows: list[list[str]] = []
    cells = dict(_groups(results, "gap", _cell))
    for data in sorted({key[0] for key in cells}):
        plain = cells[data, False, "0"]
        for name, other in (("augmentation", (True, "0")), ("dropout", (False, "0.5")), ("both", (True, "0.5"))):
            pairs = list(zip(plain, cells[data, *other], strict=True))
            kept, last, rise = ([of(before) - of(after) for before, after in pairs] for of in (_gap, _last_gap, _rise))
            gained = [100 * (after["val"]["value"] - before["val"]["value"]) for before, after in pairs]
            rows.append([data, name, _interval(kept), _interval(last), _interval(rise, 2), _interval(gained)])
    columns = [
        "images",
        "added",
        "gap narrower by",
        "gap of the last epoch narrower by",
        "val loss rises less by",
        "val accuracy higher by",
    ]
    return _table(columns, rows)


def rates(results: dict[str, Any]) -> str:
    """Return a row of each network: its val accuracy for each rate, and what lr-find suggests."""
    rows: list[list[str]] = []
    for (arch,), found in _groups(results, "rates", lambda row: (row["arch"],)):
        cells: list[str] = []
        for rate in RATES:
            same = [row for row in found if row["flags"][1] == rate]
            values = [100 * row["val"]["value"] for row in same if not row["failed"]]
            cells.append(spread(values, 1) if len(values) == len(same) else f"{len(same) - len(values)} of {len(same)} failed")
        suggested = results["suggested"][arch]
        rows.append([f"{arch} ({DEPTHS[arch]} layers)", *cells, "none" if suggested is None else f"{suggested:.1e}"])
    return _table(["network", *(f"lr {rate}" for rate in RATES), "lr-find"], rows)


def stopping(results: dict[str, Any]) -> str:
    """Return a row of each set: the epochs that early stopping saves, and the val loss and accuracy that it costs."""
    rows: list[list[str]] = []
    for (data,), found in _groups(results, "stopping", lambda row: (row["data"],)):
        saved, loss, accuracy, end = [], [], [], []
        for row in found:
            history = row["history"]
            stop = _stopped(history)
            best, early = _best(history), _best(history[:stop])
            saved.append(100 * (1 - stop / len(history)))
            loss.append(early["val_loss"] - best["val_loss"])
            accuracy.append(100 * (best["val_accuracy"] - early["val_accuracy"]))
            end.append(100 * (early["val_accuracy"] - history[-1]["val_accuracy"]))
        rows.append([data, f"{spread(saved, 0)} %", spread(loss, 3), spread(accuracy, 1), spread(end, 1)])
    return _table(["images", "epochs saved", "val loss given up", "val accuracy given up, points", "points above the last epoch"], rows)


def keras(results: dict[str, Any]) -> str:
    """Return a row for cnnkit and for the `fit` of Keras: accuracies and CPU-seconds of the same network."""
    rows: list[list[str]] = []
    for name in dict.fromkeys(row["trained by"] for row in results.get("keras", ())):
        found = [row for row in results["keras"] if row["trained by"] == name]
        scores = [spread([100 * row[split] for row in found], 1) for split in ("val", "test")]
        rows.append([name, *scores, spread([row["cpu"] for row in found], 0)])
    return _table(["trained by", "val %", "test %", "CPU-s"], rows)


def facts(results: dict[str, Any]) -> str:
    """Return the size of the study in one paragraph."""
    scale, rows = results["scale"], results["rows"]
    hours = sum(row["cpu"] for row in rows) / 3600
    sizes = f"{10 * scale['train']:,} images in train, {10 * scale['val']:,} in val and {10 * scale['test']:,} in test of each set"
    seeds = f"The gap has {results['seeds']} seeds, each other section {scale['seeds']}."
    return f"{len(rows)} trainings with {sizes}: {hours:.1f} CPU-hours. {seeds}\nMachine: {results['machine']}."


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "architectures": architectures,
    "gap": gap,
    "intervals": intervals,
    "rates": rates,
    "stopping": stopping,
    "keras": keras,
    "facts": facts,
}


def _groups(
    results: dict[str, Any], section: str, key: Callable[[dict[str, Any]], tuple[Any, ...]]
) -> list[tuple[Any, list[dict[str, Any]]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in results["rows"]:
        if row["section"] == section:
            found.setdefault(key(row), []).append(row)
    return list(found.items())


def _cell(row: dict[str, Any]) -> tuple[str, bool, str]:
    """Return images, whether they are augmented, and the dropout of a training."""
    dropout = next(flag.removeprefix("dropout=") for flag in row["flags"] if flag.startswith("dropout="))
    return row["data"], "none" not in row["flags"], dropout


def _gap(row: dict[str, Any]) -> float:
    """Return train minus val accuracy of the kept model in points, both without augmentation and dropout."""
    return 100 * (row["train"]["value"] - row["val"]["value"])


def _last_gap(row: dict[str, Any]) -> float:
    """Return train minus val accuracy of the last epoch in points, train as it was measured during the epoch."""
    return 100 * (row["history"][-1]["train_accuracy"] - row["history"][-1]["val_accuracy"])


def _rise(row: dict[str, Any]) -> float:
    """Return how far the val loss of the last epoch lies above its minimum."""
    return row["history"][-1]["val_loss"] - min(epoch["val_loss"] for epoch in row["history"])


def _stopped(history: list[dict[str, float]]) -> int:
    """Return the number of epochs after which `PATIENCE` epochs in a row were not better."""
    best, since = float("inf"), 0
    for number, epoch in enumerate(history, 1):
        best, since = (epoch["val_loss"], 0) if epoch["val_loss"] < best else (best, since + 1)
        if since == PATIENCE:
            return number
    return len(history)


def _best(history: list[dict[str, float]]) -> dict[str, float]:
    return min(history, key=lambda epoch: epoch["val_loss"])


def _interval(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean with the 95 % interval of Student's t over the seeds."""
    from scipy.stats import t

    middle = statistics.mean(values)
    if len(values) == 1:
        return f"{middle:.{digits}f}"
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{middle:.{digits}f} ({middle - half:.{digits}f} to {middle + half:.{digits}f})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([head(columns), *map(table_row, rows)])


if __name__ == "__main__":
    sys.exit(main())
