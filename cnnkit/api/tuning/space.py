"""The space of a search, checked against the settings of the training and the options of its architectures."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnkit.api.extensions.training import load_training_extensions
from cnnkit.architecture import Option, option_name, options, parse_options, parse_settings
from cnnkit.config.parsing import flag
from cnnkit.config.recipe import read_table, resolve
from cnnkit.config.settings import SECTION_OF, TrainConfig, by_section
from cnnkit.errors import CnnkitError, ConfigError, closest
from cnnkit.registry import load_architecture
from cnnkit.tuning.default_space import default_domain, default_names, number_of, option_domain, searchable, usual_options
from cnnkit.tuning.space import Domain, Range, SearchSpace, Value, choice_text, parse_domain, split_words

_WITH_COMMAS = frozenset({"zoom", "randaugment"})
Options = Mapping[str, Mapping[str, Option]]  # by architecture and name


@dataclass(frozen=True)
class Layers:
    """The layers of settings below those of a trial: the typed flags, the recipe and the ``--config`` file."""

    given: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    file: Path | None = None

    def config(self, settings: Mapping[str, Value] | None = None, chosen: Mapping[str, Value] | None = None) -> TrainConfig:
        """Return the checked settings of a training with `settings` and the options `chosen` above the layers."""
        values = {**self.given, **(settings or {})}
        if chosen:
            values["set"] = [*self.given.get("set", ()), *(f"{name}={choice_text(value)}" for name, value in chosen.items())]
        return resolve(by_section(values), recipe=self.recipe, file=self.file)


def read_space(layers: Layers, *, words: Sequence[str] | Mapping[str, object] = (), file: Path | None = None) -> SearchSpace:
    """Return the space of the words after ``--search`` above the TOML `file` of ``--space``; without both, the default space.

    `words` may also be a mapping from names to domains, such as the table of a file: ``{"lr": "1e-4..1e-2:log", "width": [32, 64]}``.
    Every end of a range and every choice is checked as a setting or an option. Raises `ConfigError`, which names the flag or the file,
    the name, the value and the allowed values, and `PluginError` for an architecture that does not load.
    """
    config = layers.config()
    written: dict[str, tuple[object, str]] = {name: (value, f"--space {file}") for name, value in _read_file(file).items()} if file else {}
    given = {option_name(name): value for name, value in words.items()} if isinstance(words, Mapping) else split_words(words)
    written |= {name: (value, "--search") for name, value in given.items()}
    archs = _archs(written, config)
    known: Options = {arch: options(load_architecture(arch)[0], arch) for arch in archs}
    if not written:
        return _checked(layers, _default_space(config, known), known)
    domains = {name: _domain(name, value, origin, config, known) for name, (value, origin) in written.items()}
    for name in domains:
        _refuse_given(name, layers, written[name][1])
    return _checked(layers, _with_options(domains, known), known)


def baseline(space: SearchSpace, config: TrainConfig) -> dict[str, Value]:
    """Return the values of `config` itself that lie in `space`: the first trial, so that a search ends no worse than its recipe."""
    found: dict[str, Value] = {}
    for name in space.settings:
        value = getattr(getattr(config, SECTION_OF[name]), name)
        value = float(value) if isinstance(value, int) and not isinstance(value, bool) and _is_float(space.domains[name]) else value
        if value in space.domains[name]:
            found[name] = value
    arch = str(found.get("arch", config.model.arch))
    names = space.options_of(arch)
    if names and arch == config.model.arch:
        values = parse_options(load_architecture(arch)[0], arch, config.model.set)
        found |= {name: values[name] for name in names if values[name] in space.domains[name]}
    return found


def _is_float(domain: Domain) -> bool:
    return isinstance(domain, Range) and not domain.is_integer


def _read_file(file: Path) -> dict[str, object]:
    """Return the table of a ``--space`` file: one name and its domain on each line."""
    table = read_table(file, "--space", "cnnkit tune --print-space")
    for name, value in table.items():
        if isinstance(value, dict):
            raise ConfigError(
                f'--space {file}: [{name}]: the file has no tables; write one line for each name, such as lr = "1e-4..1e-2:log" '
                "or width = [32, 64]"
            )
    if not table:
        raise ConfigError(f'--space {file}: the file is empty; write lines such as lr = "1e-4..1e-2:log"')
    return {option_name(name): value for name, value in table.items()}


def _archs(written: Mapping[str, tuple[object, str]], config: TrainConfig) -> tuple[str, ...]:
    """Return the architectures of the search: those that it chooses from, else that of the settings."""
    if "arch" not in written:
        return (config.model.arch,)
    value, origin = written["arch"]
    if value == "":
        raise ConfigError(f"{origin} arch: name the architectures: arch=custom-cnn,residual-cnn")
    return tuple(map(str, parse_domain("arch", value, None, origin).edges))


def _domain(name: str, value: object, origin: str, config: TrainConfig, known: Options) -> Domain:
    """Return the domain of `name` that `value` means, or its default for an empty text."""
    if name in searchable():
        number, default = number_of(name), default_domain(name, config)
    else:
        option = next((found[name] for found in known.values() if name in found), None)
        if option is None:
            raise ConfigError(_unknown(name, origin, known))
        number, default = (option.type if option.type in {int, float} else None), option_domain(option)
    if value != "":
        return parse_domain(name, value, number, origin)
    if default is None:
        raise ConfigError(f"{origin} {name}: {name} has no default range; type one: {name}=LOW..HIGH or {name}=A,B")
    return default


def _unknown(name: str, origin: str, known: Options) -> str:
    """Return the message for a `name` that is neither a setting for a search nor an option of an architecture."""
    if name in SECTION_OF:
        return (
            f"{origin} {name}: a search does not change {flag(name)}, because its trials must see the same images and the same "
            f"measure; give it as a flag, {flag(name)}, for all trials"
        )
    names = [*searchable(), *(option for found in known.values() for option in found)]
    of = ", ".join(known)
    return f"{origin} {name}: neither a setting nor an option of {of}{closest(name, names)} For its options type: cnnkit archs show {of}"


def _refuse_given(name: str, layers: Layers, origin: str) -> None:
    """Raise `ConfigError` if `name` is searched and also given as a flag, which fixes it."""
    given_options = {*map(option_name, layers.given.get("set", ()))}
    if name in layers.given or name in given_options:
        typed = flag(name) if name in layers.given else f"--set {name}"
        raise ConfigError(f"{origin} {name}: {typed} gives one value for all trials; leave out one of the two")


def _default_space(config: TrainConfig, known: Options) -> SearchSpace:
    """Return the default space of the recipe of `config` with the options that have a range."""
    domains = {name: domain for name in default_names(config) if (domain := default_domain(name, config)) is not None}
    fixed = {*map(option_name, config.model.set)}
    found = usual_options(option for option in known[config.model.arch].values() if option.name not in fixed | domains.keys())
    return _with_options(domains | found, known)


def _with_options(domains: Mapping[str, Domain], known: Options) -> SearchSpace:
    own = {name for name in domains if name not in searchable()}
    return SearchSpace(domains, {arch: frozenset(own & found.keys()) for arch, found in known.items()})


def _checked(layers: Layers, space: SearchSpace, known: Options) -> SearchSpace:
    """Return `space` without the default names that a flag fixes; raises `ConfigError` for a value that a training refuses."""
    domains = {name: domain for name, domain in space.domains.items() if name not in layers.given}
    if not domains:
        raise ConfigError("nothing is left to search, because flags fix every name of the default space; type --search NAME=LOW..HIGH")
    space = SearchSpace(domains, space.options)
    for name in space.settings:
        for value in domains[name].edges:
            with _naming(name, value):
                load_training_extensions(layers.config({name: value}))
    for arch, found in known.items():
        for name in space.options_of(arch):
            for value in domains[name].edges:
                with _naming(name, value):
                    parse_settings(found, f"architecture {arch!r}", [f"{name}={choice_text(value)}"])
    return space


@contextmanager
def _naming(name: str, value: Value) -> Generator[None]:
    """Raise `ConfigError`, which names the searched `name` and its `value`, for an error of the body, which checks them."""
    try:
        yield
    except CnnkitError as error:
        quoted = f'; its values have commas, so write them in a --space file: {name} = ["…", "…"]' if name in _WITH_COMMAS else ""
        raise ConfigError(f"the search space has {name}={choice_text(value)}: {error}{quoted}") from None
