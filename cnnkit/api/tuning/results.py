"""The results of a search: the table of its trials, the best settings as a recipe, and two pictures; and its run, which writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.api.tuning.search import Search
from cnnkit.config.recipe import to_toml
from cnnkit.errors import counted
from cnnkit.files import write_csv, write_text
from cnnkit.tuning.trials import SearchNews, StoredTrial, best_of, counts

TABLE_NAME, RECIPE_NAME, HISTORY_NAME, IMPORTANCE_NAME = "trials.csv", "best.toml", "history.png", "importance.png"
COLUMNS = ("number", "state", "value", "epochs", "seconds", "run", "host", "resumed", "reason")
MAX_ROWS = 30  # trials in a notebook, the best first
# The sections of a recipe; the others tell of these images and of this machine.
RECIPE_SECTIONS = ("model", "optim", "augment", "stop")


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The trials of a search, the best of them, the importance of each parameter, and the written files by kind.

    `best` is None if no trial is complete. Its ``run`` is a run directory as any other, and its ``params`` are the found settings.
    """

    search: Search
    trials: tuple[StoredTrial, ...]
    best: StoredTrial | None
    importances: Mapping[str, float]
    files: Mapping[str, Path]

    def __repr__(self) -> str:
        from cnnkit.report.terminal.search import params_text

        name, best = self.search.name, self.best
        if best is None:
            return f"SearchResult({name!r}, no complete trial of {len(self.trials)})"
        found = f"{self.search.monitor} {best.value:.4f}, {params_text(best.params)}"
        return f"SearchResult({name!r}, best of {counted(len(self.trials), 'trial')}: {best.number}, {found})"

    def _repr_html_(self) -> str:
        from cnnkit.report.page.notebook import table_html
        from cnnkit.report.terminal.search import trial_cells, trial_heads

        names = tuple(self.search.space.domains)
        ranked = sorted(self.trials, key=self._rank)[:MAX_ROWS]
        rows = [trial_cells(trial, names) for trial in ranked]
        return table_html(trial_heads(names, self.search.monitor), rows, caption=self.search.name, total=len(self.trials))

    def _rank(self, trial: StoredTrial) -> tuple[bool, float]:
        """Return the key of a trial in the order of the notebook: complete trials by their value, then the others by number."""
        if trial.state != "complete" or trial.value is None:
            return True, trial.number
        return False, -trial.value if self.search.study.options.maximize else trial.value

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``--json``."""
        search = self.search
        return {
            "name": search.name,
            "storage": search.study.storage.shown,
            "monitor": search.monitor,
            "space": search.space.to_dict(),
            "counts": counts(self.trials),
            "best": self.best.to_dict() if self.best else None,
            "importances": dict(self.importances),
            "trials": [trial.to_dict() for trial in self.trials],
            "files": {kind: str(path) for kind, path in self.files.items()},
        }


def run_search(search: Search, seconds: float = 0.0) -> Iterator[SearchNews]:
    """Run the search and yield its news, as `Search.news` does; write the table of the trials after each of them."""
    for news in search.news(seconds):
        if news.event == "ended":
            write_table(search, news.trials)
        yield news


def write_table(search: Search, trials: tuple[StoredTrial, ...]) -> Path:
    """Write trials.csv: one row for each trial, with one column for each searched name."""
    path = search.folder / TABLE_NAME
    names = tuple(search.space.domains)
    rows = []
    for trial in trials:
        facts = trial.to_dict()
        params = facts.pop("params")
        rows.append({**facts, **{name: params.get(name, "") for name in names}})
    write_csv(path, (*COLUMNS, *names), rows)
    return path


def write_results(search: Search) -> SearchResult:
    """Write the table and, with a complete trial, the recipe and the pictures; return them."""
    trials = tuple(search.study.trials())
    files = {"table": write_table(search, trials)}
    best = best_of(trials, maximize=search.study.options.maximize)
    importances: dict[str, float] = {}
    if best is not None:
        files["recipe"] = _write_recipe(search, best)
        importances = search.study.importances()
        files |= _draw(search, trials, importances)
    return SearchResult(search, trials, best, importances, files)


def _write_recipe(search: Search, best: StoredTrial) -> Path:
    """Write best.toml, which ``cnnkit train --config`` reads."""
    path = search.folder / RECIPE_NAME
    head = f"# trial {best.number} of the search {search.name}: {search.monitor} {best.value:.6g}, the best of {search.monitor} on val\n\n"
    write_text(path, head + to_toml(search.config_of(best), sections=RECIPE_SECTIONS))
    return path


def _draw(search: Search, trials: tuple[StoredTrial, ...], importances: Mapping[str, float]) -> dict[str, Path]:
    """Draw the values of the trials and, if it is known, the importance of the parameters."""
    from cnnkit.report.pictures.search import plot_history, plot_importances  # loads matplotlib

    history, importance = search.folder / HISTORY_NAME, search.folder / IMPORTANCE_NAME
    points = [(trial.number, trial.value, trial.state) for trial in trials if trial.value is not None]
    plot_history(points, history, metric=search.monitor, maximize=search.study.options.maximize, title=search.name)
    if not importances:
        return {"history": history}
    plot_importances(importances, importance, title=search.name)
    return {"history": history, "importance": importance}
