"""The settings of a training, layered from the defaults, a recipe, a ``--config`` file and flags."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cnnkit.architecture import option_name
from cnnkit.config.settings import SECTIONS, TrainConfig, Values, validated
from cnnkit.config.tiers import Tier, parse_tier
from cnnkit.errors import ConfigError, closest
from cnnkit.files import read_regular

MAX_CONFIG_BYTES = 2**18  # all settings take 2 KB; the parser takes seconds for a table of a megabyte
# The parser's time grows with the square of the parts of a key: 20,000 parts take 8 s.
MAX_KEY_PARTS = 50
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rf"(?<![\w.-])(?:{_PART}\.[ \t]*+){{{MAX_KEY_PARTS}}}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EXCLUSIVE = {"epochs": "budget", "budget": "epochs"}  # in a higher layer, each removes the other from the layers below


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with cnnkit."""
    return sorted(file.name.removesuffix(".toml") for file in _recipes().iterdir() if file.name.endswith(".toml"))


def resolve(flags: Values, *, recipe: str | None = None, file: Path | None = None) -> TrainConfig:
    """Layer the defaults, a recipe, a ``--config`` file and `flags` into one checked configuration; the later layer wins.

    Without `recipe`, the recipe is that of the file, else ``finetune`` if there are weights, else ``default``. Epochs
    replace the time budget of a lower layer, and a budget replaces its epochs; both in `flags` are an error. The result
    holds the tiers of the recipe or the file (``[[larger]]``). Once the speed of the network is known, `with_tier` applies
    one of them. Raises `ConfigError`, which names the flag, its value and the allowed values.
    """
    chosen = read_table(file) if file else {}
    from_file, own = chosen.pop("recipe", None), chosen.pop("larger", None)
    for section, values in chosen.items():
        if section not in SECTIONS or not isinstance(values, Mapping):
            raise ConfigError(
                f"--config {file}: [{section}] is not a section of a configuration{closest(section, SECTIONS)} Known: {', '.join(SECTIONS)}"
            )
    asked = flags.get("optim", {})
    if asked.get("budget") and "epochs" in asked:
        raise ConfigError(
            f"--epochs (={asked['epochs']}) cannot be used with --budget (={asked['budget']}), which trains until the time is up; "
            "leave one out"
        )
    weights = flags.get("model", {}).get("weights", chosen.get("model", {}).get("weights", "none"))
    name = str(recipe or from_file or ("finetune" if weights != "none" else "default"))
    if name not in recipe_names():
        raise ConfigError(f"--recipe {name}: no such recipe{closest(name, recipe_names())} Known: {', '.join(recipe_names())}")
    document = tomllib.loads((_recipes() / f"{name}.toml").read_text("utf-8"))
    tables = document.pop("larger", [])
    if _layered(document, chosen, flags).get("model", {}).get("arch") != document.get("model", {}).get("arch"):
        document.get("model", {}).pop("set", None)  # they are options of another architecture
        tables = []
    below, above = [document], [chosen, flags]
    if own is not None:  # the tiers of a file override the rest of the file
        tables, below, above = own if isinstance(own, list) else [own], [document, chosen], [flags]
    config = validated({"recipe": name, **_layered(*below, *above)})
    if own and not config.optim.budget and "epochs" not in asked:
        raise ConfigError(f"--config {file}: [[larger]] needs a time budget; add one, such as --budget 10m, or leave it out")
    larger = [_effective_tier(config, table, below, above, file) for table in tables] if config.optim.budget else []
    return config.model_copy(update={"larger": tuple(sorted((each for each in larger if each.tables()), key=lambda each: each.images))})


def with_tier(config: TrainConfig, larger: Tier) -> TrainConfig:
    """Return `config` with the settings of `larger` in place of its own, and without tiers."""
    return validated({"recipe": config.recipe, **_layered(config.model_dump(include=set(SECTIONS)), larger.tables())})


def _effective_tier(config: TrainConfig, table: Any, below: Sequence[Values], above: Sequence[Values], file: Path | None) -> Tier:
    """Return the tier with the settings of `config` that change if `table` is layered between `below` and `above`."""
    given = parse_tier(table, file)
    other = validated({"recipe": config.recipe, **_layered(*below, given.tables(), *above)})
    before, after = (each.model_dump(mode="json", include=set(SECTIONS)) for each in (config, other))
    changed = {name: {field: value for field, value in after[name].items() if value != before[name][field]} for name in before}
    return Tier(images=given.images, **{name: values for name, values in changed.items() if values})


def _layered(*layers: Values) -> dict[str, dict[str, Any]]:
    """Merge the layers; the later one wins, for each setting and for each option of the architecture."""
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, values in layer.items():
            before = dict(merged.get(section, {}))
            if section == "optim":
                for setting, other in _EXCLUSIVE.items():
                    if setting in values:
                        before.pop(other, None)
            merged[section] = {**before, **values}
            if _are_texts(before.get("set")) and _are_texts(values.get("set")):
                by_name = {option_name(setting): setting for setting in (*before["set"], *values["set"])}
                merged[section]["set"] = tuple(by_name.values())
    return merged


def _are_texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def to_toml(config: TrainConfig, *, ascii_only: bool = False, sections: Collection[str] = tuple(SECTIONS)) -> str:
    """Return `config` as the TOML document that ``--config`` reads, with escapes in ASCII alone; settings without a value are left out.

    `sections` names the sections to write, by default all. Raises `ConfigError` for a name that is not UTF-8, which TOML cannot hold.
    """
    import tomli_w  # only --print-config needs it

    document = config.model_dump(mode="json", exclude_none=True, include={"recipe", *sections})
    if config.larger:
        document["larger"] = [{"images": each.images, **each.tables()} for each in config.larger]
    text = tomli_w.dumps(document)
    if lone := _SURROGATE.search(text):
        line = text[text.rfind("\n", 0, lone.start()) + 1 :].partition("\n")[0]
        raise ConfigError(f"{line!a}: the name is not UTF-8, and TOML cannot hold it; rename the file, or give the flag by itself")
    if not ascii_only:
        return text
    return "".join(letter if letter.isascii() else f"\\U{ord(letter):08x}" for letter in text)  # all of them stand in quoted strings


def _recipes() -> Any:
    return resources.files("cnnkit.config") / "recipes"


def read_table(file: Path, flag: str = "--config", example: str = "cnnkit train --print-config") -> dict[str, Any]:
    """Return the document of the TOML file `file`, with or without a byte order mark.

    Raises `ConfigError`, which names the `flag` of the file and the command that prints an `example`.
    """
    stored = b""
    try:
        stored = read_regular(file, MAX_CONFIG_BYTES)
        text = stored.decode("utf-8-sig").replace("\r\n", "\n")
        if found := _LONG_KEY.search(text):
            line = text.count("\n", 0, found.start()) + 1
            raise ConfigError(f"{flag} {file}: line {line}: a key of more than {MAX_KEY_PARTS} parts; settings have two, such as optim.lr")
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{flag} {file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = stored.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{flag} {file}: not a TOML file: line {line} is not UTF-8; save the file with the encoding UTF-8") from None
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, or a number or a nesting beyond Python's own limits
        reason = "its lists are nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{flag} {file}: not a TOML file: {reason}; for an example, type: {example}") from None
