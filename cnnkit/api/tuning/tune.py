"""The function `tune`: a complete search for settings in one call from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Unpack

from cnnkit.api.training.prepare import prepare
from cnnkit.api.tuning.results import SearchResult, run_search, write_results
from cnnkit.api.tuning.search import Search, default_name
from cnnkit.api.tuning.space import Layers, read_space
from cnnkit.config.keywords import TrialSettings
from cnnkit.config.search import DEFAULT_SAMPLER, DEFAULT_TRIALS, Sampler, budget_seconds, check_search
from cnnkit.data.sources.arrays import Images, Labels, Table, source_in_memory
from cnnkit.errors import ConfigError
from cnnkit.tuning.storage import import_optuna


def tune(  # noqa: PLR0913 - one argument per flag of the command
    data: str | Path | Table | None = None,
    *,
    images: Images | None = None,
    labels: Labels | None = None,
    arch: str | None = None,
    recipe: str | None = None,
    search: Sequence[str] | Mapping[str, object] = (),
    trials: int = DEFAULT_TRIALS,
    budget: str | float | None = None,
    name: str | None = None,
    storage: str | None = None,
    sampler: Sampler = DEFAULT_SAMPLER,
    prune: bool = True,
    show: bool | None = None,
    **settings: Unpack[TrialSettings],
) -> SearchResult:
    """Search for better settings of a training on `data`, or on `images` with `labels`, by trials; return all of them and the best.

    `search` has the words of ``--search``, such as ``["lr=1e-4..1e-2:log", "width=32,64"]``, or a mapping with the lines of a ``--space``
    file, such as ``{"lr": "1e-4..1e-2:log", "width": [32, 64]}``; by default a space that suits the recipe. After the `budget`, such as
    ``"30m"``, no trial begins. `settings` are the flags of ``cnnkit train`` for every trial. The same call continues the search, also after
    an interruption, and joins it from another process. `show` prints a line per trial, by default in a notebook only. Raises `CnnkitError`
    for every error that ``cnnkit tune`` reports; without a complete trial, the result has no best one.
    """
    seconds = budget_seconds(budget)
    check_search(name, trials, sampler)
    source = source_in_memory("tune", data, images, labels)
    if source is None and data is None:
        raise ConfigError("tune() needs either data or both images and labels: tune(data='./images') or tune(images=..., labels=...)")
    given = {"data": str(data) if source is None else source.name, **({"arch": arch} if arch else {}), **settings}
    layers = Layers(given, recipe)
    space, config = read_space(layers, words=search), layers.config()
    import_optuna()
    job = prepare(config, source=source, dry_run=True)  # what every trial would refuse is refused here
    work = Search(layers, space, name or default_name(config), trials=trials, storage=storage, sampler=sampler, prune=prune, source=source)
    try:
        work.agree_on_images(job)  # also if no trial is left
        del job
        _run(work, seconds, trials, show=show)
        return write_results(work)
    finally:
        work.study.storage.close()


def _run(work: Search, seconds: float, trials: int, *, show: bool | None) -> None:
    """Run the search; show its news if `show` says so, by default in a notebook."""
    from cnnkit.report.terminal.live import is_shown, stdout_console
    from cnnkit.report.terminal.search import SearchTable

    with ExitStack() as stack:
        table = None
        if is_shown(show):
            table = stack.enter_context(SearchTable(stdout_console(), work.space.domains, metric=work.monitor, total=trials))
        for news in run_search(work, seconds):
            if table is not None:
                table.show(news)
