"""Which settings a training has: the defaults, a recipe, a ``--config`` file and flags, one over the other."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from cnnkit.architecture import option_name
from cnnkit.config import SECTIONS, TrainConfig, Values, validated
from cnnkit.errors import ConfigError, closest
from cnnkit.values import duration

_EITHER = {"epochs": "budget", "budget": "epochs"}  # of a layer above, each does away with the other


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with cnnkit."""
    return sorted(file.name.removesuffix(".toml") for file in _recipes().iterdir() if file.name.endswith(".toml"))


def resolve(flags: Values, *, recipe: str | None = None, file: Path | None = None) -> TrainConfig:
    """Layer the defaults, a recipe, a ``--config`` file and `flags` (later wins) into one checked configuration.

    Without `recipe` the file's is taken, else ``finetune`` if weights are given, else ``default``. Epochs that are asked for
    replace a recipe's time budget, and a budget its epochs; both in one layer are refused.
    Raises `ConfigError` that names the flag, its value and what is allowed.
    """
    chosen = _read(file) if file else {}
    from_file = chosen.pop("recipe", None)
    for section, values in chosen.items():
        if section not in SECTIONS or not isinstance(values, Mapping):
            raise ConfigError(
                f"--config {file}: [{section}] is not a section of a configuration{closest(section, SECTIONS)} Known: {', '.join(SECTIONS)}"
            )
    asked = flags.get("optim", {})
    if asked.get("budget") and "epochs" in asked:
        raise ConfigError(
            f"--epochs (={asked['epochs']}) has no say with --budget (={asked['budget']}), which trains until the time is up; leave one out"
        )
    weights = flags.get("model", {}).get("weights", chosen.get("model", {}).get("weights", "none"))
    name = str(recipe or from_file or ("finetune" if weights != "none" else "default"))
    if name not in recipe_names():
        raise ConfigError(f"--recipe {name}: no such recipe{closest(name, recipe_names())} Known: {', '.join(recipe_names())}")
    merged = _layered(*_layers(name, chosen, flags))
    return validated({"recipe": name, **merged})


def _layers(recipe: str, *above: Values) -> list[Values]:
    """Return the tables of a recipe and what comes `above` it, with those that the recipe keeps for long budgets in between.

    Options of the recipe's architecture are left out if another one is asked for.
    """
    document = tomllib.loads((_recipes() / f"{recipe}.toml").read_text("utf-8"))
    longer = document.pop("from", {})
    asked = _layered(document, *above)
    budget = asked.get("optim", {}).get("budget", 0)
    fitting = sorted((float(seconds), seconds) for seconds in longer if _seconds(budget) >= float(seconds))
    tables = [document, *(longer[seconds] for _, seconds in fitting)]
    if asked.get("model", {}).get("arch") != document.get("model", {}).get("arch"):
        for table in tables:
            table.get("model", {}).pop("set", None)
    return [*tables, *above]


def _seconds(budget: Any) -> float:
    try:
        return float(duration(budget))  # pyright: ignore[reportArgumentType] (whatever it is)
    except (TypeError, ValueError):
        return 0.0  # the configuration refuses it, in the words of the flag


def _layered(*layers: Values) -> dict[str, dict[str, Any]]:
    """Put one layer over the other: the later one wins, for each option of the architecture too."""
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, values in layer.items():
            before = dict(merged.get(section, {}))
            if section == "optim":
                for setting, other in _EITHER.items():
                    if setting in values:
                        before.pop(other, None)
            merged[section] = {**before, **values}
            if "set" in before and "set" in values:
                by_name = {option_name(setting): setting for setting in (*before["set"], *values["set"])}
                merged[section]["set"] = tuple(by_name.values())
    return merged


def to_toml(config: TrainConfig) -> str:
    """Return `config` as the TOML document that ``--config`` reads; settings without a value are left out."""
    import tomli_w  # only --print-config needs it

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _recipes() -> Any:
    return resources.files("cnnkit") / "recipes"


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file}: not a TOML file: {error}; --print-config shows what one looks like") from None
