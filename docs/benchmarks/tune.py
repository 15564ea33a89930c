"""The search for settings against random search, with killed workers, and its own processor time.

    python docs/benchmarks/tune.py compare [--seeds 0 1 2] [--trials 20] [--epochs 4] [--json FILE] -- --data digits
    python docs/benchmarks/tune.py kill [--trials 10] [--storage URL] -- --data digits
    python docs/benchmarks/tune.py overhead [--trials 100] [--json FILE]

"compare" searches with ``--sampler tpe`` and ``--sampler random`` at equal trials and equal seeds, both with pruning, and prints the
best value on val after each quarter of the trials, with the processor time. What stands after ``--`` goes to ``cnnkit tune``. "kill"
starts two workers, kills one in each trial by SIGKILL after one to three epochs, starts another in its stead, and prints the state of
every trial at the end. "overhead" runs trials whose training does nothing, and prints the processor time of a trial beside that of a
loop with the same calls of Optuna alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from document import Table, add_option, save, spread

EPOCHS = 5
SPACE = ("-s", "lr=1e-4..1e-1:log", "-s", "weight_decay=1e-3..1:log", "-s", "label_smoothing", "-s", "augment", "-s", "dropout")
NETWORK = ("--set", "width=8", "--set", "blocks=2", "--set", "dense=32")


def command(words: list[str]) -> list[str]:
    """Return the command line of a search with `words` after its name."""
    return [sys.executable, "-m", "cnnkit", "tune", *words]


def search(words: list[str], folder: Path) -> tuple[dict[str, Any], float]:
    """Search in `folder`; return the document and the seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command(words), "--json"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return json.loads(done.stdout), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def best_after(trials: list[dict[str, Any]], number: int) -> float:
    """Return the smallest val loss of the complete ones among the first `number` trials."""
    return min(trial["value"] for trial in trials[:number] if trial["state"] == "complete")


def compare(given: argparse.Namespace) -> None:
    """Search by both samplers with every seed and print the best values."""
    quarters = [round(given.trials * share) for share in (0.25, 0.5, 0.75, 1)]
    best: dict[str, list[list[float]]] = {"tpe": [], "random": []}
    pruned: dict[str, list[int]] = {name: [] for name in best}
    seconds: dict[str, list[float]] = {name: [] for name in best}
    for seed in given.seeds:
        for sampler in tuple(best):
            with tempfile.TemporaryDirectory() as folder:
                words = ["--epochs", str(given.epochs), "--trials", str(given.trials), "--precision", "fp32", *NETWORK, *SPACE]
                document, used = search([*words, "--sampler", sampler, "--seed", str(seed), *given.rest], Path(folder))
            best[sampler].append([best_after(document["trials"], number) for number in quarters])
            pruned[sampler].append(document["counts"].get("pruned", 0))
            seconds[sampler].append(used)
            print(
                f"  {sampler}, seed {seed}: {best[sampler][-1]}, {pruned[sampler][-1]} pruned, {used:.0f} CPU-s",
                file=sys.stderr,
                flush=True,
            )
    table = Table("sampler", *(f"best val loss of {number} trials" for number in quarters), "pruned", "CPU-s")
    for sampler, found in best.items():
        cells = [spread(column, 4) for column in zip(*found, strict=True)]
        table.add(sampler, *cells, f"{statistics.mean(pruned[sampler]):.1f}", f"{statistics.mean(seconds[sampler]):.0f}")
    is_lower = statistics.mean(each[-1] for each in best["tpe"]) < statistics.mean(each[-1] for each in best["random"])
    claim = (
        f"The best of {given.trials} trials has a {'lower' if is_lower else 'higher'} mean val loss with the sampler tpe than with random."
    )
    save(given.json, "Search against random search", claim, table.columns, table.rows, seeds=given.seeds)


def kill(given: argparse.Namespace) -> None:
    """Kill a worker in each trial, start another one, and print the state of every trial at the end."""
    from cnnkit.errors import CnnkitError
    from cnnkit.tuning.study import Study, StudyOptions

    storage = ["--storage", given.storage] if given.storage else []
    words = ["--epochs", str(EPOCHS), "--trials", str(given.trials), "--name", "killed", "--save-every", "0.3s", "--precision", "fp32"]
    with tempfile.TemporaryDirectory() as folder:

        def start() -> subprocess.Popen[bytes]:
            line = command([*words, *storage, *NETWORK, *SPACE[:2], *given.rest])
            return subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        workers, killed, study = [start(), start()], {}, None
        while any(worker.poll() is None for worker in workers):
            time.sleep(0.1)
            with suppress(CnnkitError):
                search_folder = Path(folder) / "runs" / "tune" / "killed"
                if study is None and search_folder.exists():
                    study = Study(search_folder, "killed", StudyOptions(maximize=False, trials=given.trials, epochs=EPOCHS), given.storage)
            for trial in study.trials() if study else ():
                due = trial.state == "running" and trial.number not in killed and trial.epoch > trial.number % 3
                for index, worker in enumerate(workers):
                    if due and trial.worker and worker.pid == trial.worker.owner.pid:
                        worker.kill()
                        worker.wait()
                        killed[trial.number], workers[index] = trial.epoch, start()
        table = Table("trial", "state", "epochs", "killed after epoch", "continued")
        for trial in study.trials() if study else ():
            table.add(str(trial.number), trial.state, str(trial.epoch), str(killed.get(trial.number, "-")), str(trial.resumed))
    print(f"exit codes of the last two workers: {[worker.returncode for worker in workers]}")


class NullJob:
    """A training that does nothing: epochs whose values depend on the learning rate alone."""

    def __init__(self, config: Any, folder: Path) -> None:
        self.config, self.optim, self.folder = config, config.optim, folder
        self.header = SimpleNamespace(training={"data": {"sha256": "0"}})
        self.state = SimpleNamespace(stopping=SimpleNamespace(exhausted=False))
        self.runtime = SimpleNamespace(device=SimpleNamespace(type="cpu"))
        self.trial, self.command, self.status_if_left = None, (), "stopped"
        self.run: Any = None

    def begin(self) -> Any:
        """Return a run without files."""
        result = SimpleNamespace(best_value=self.config.optim.lr, monitor="val_loss")
        record = SimpleNamespace(status="finished", result=result)
        self.run = SimpleNamespace(path=self.folder / "run", read_history=list, read_record=lambda: record)
        return self.run

    def epochs(self) -> Iterator[Any]:
        """Yield epochs that get better."""
        for epoch in range(1, EPOCHS + 1):
            yield SimpleNamespace(epoch=epoch, val_loss=self.config.optim.lr + 1 / epoch)


def overhead(given: argparse.Namespace) -> None:
    """Print the processor time of a trial without training, beside that of Optuna alone."""
    import optuna

    from cnnkit.api.tuning import trial as trial_module
    from cnnkit.api.tuning.results import write_table
    from cnnkit.api.tuning.search import Search
    from cnnkit.api.tuning.space import Layers, read_space

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layers = Layers({"data": "digits", "epochs": EPOCHS, "out": folder})
        space = read_space(layers, words=[word for word in SPACE if word != "-s"])
        trial_module.prepare = lambda config: NullJob(config, folder)
        work = Search(layers, space, "null", trials=given.trials, prune=False)
        before = time.process_time()
        for news in work.news():
            if news.event == "ended":
                write_table(work, news.trials)
        ours = 1000 * (time.process_time() - before) / given.trials
        alone = 1000 * bare_optuna(folder / "alone.journal", space, given.trials) / given.trials
    table = Table("CPU-ms a trial", "of Optuna alone", "difference")
    table.add(f"{ours:.1f}", f"{alone:.1f}", f"{ours - alone:.1f}")
    claim = f"A trial of {EPOCHS} epochs costs {ours - alone:.0f} milliseconds of processor time beside its training and Optuna."
    save(given.json, "Cost of a trial beside its training", claim, table.columns, table.rows)


def bare_optuna(file: Path, space: Any, trials: int) -> float:
    """Return the seconds of processor time of the same calls of Optuna, with the same journal and sampler."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    from cnnkit.tuning.study import _suggest

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file))))
    before = time.process_time()
    study = optuna.create_study(storage=storage, pruner=optuna.pruners.NopPruner())
    for number in range(trials):
        study.sampler = optuna.samplers.TPESampler(seed=number)
        trial = study.ask()
        for name, domain in space.domains.items():
            _suggest(trial, name, domain)
        for epoch in range(1, EPOCHS + 1):
            trial.report(trial.params["lr"] + 1 / epoch, epoch)
            trial.should_prune()
        study.tell(trial, trial.params["lr"])
    return time.process_time() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("compare", "kill", "overhead"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--storage")
    add_option(parser)
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:cut])
    given.rest = words[cut + 1 :]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the networks are small
    measure, trials = {"compare": (compare, 20), "kill": (kill, 10), "overhead": (overhead, 100)}[given.what]
    given.trials = given.trials or trials
    measure(given)


if __name__ == "__main__":
    main()
