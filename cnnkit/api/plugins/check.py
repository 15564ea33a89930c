"""The check of one plugin: a table of promises, each kept or broken with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Callable

from cnnkit.api.plugins import architecture_checks, group_checks
from cnnkit.api.plugins.load_process import load_apart
from cnnkit.api.plugins.plugin_report import CheckResult, PluginReport, shortened
from cnnkit.errors import ConfigError, PluginError, closest
from cnnkit.registry import ARCHITECTURES, EXPORTERS, SOURCES, TRACKERS, Entry, choose, find, find_all, short_name, standing

GroupChecks = Callable[[PluginReport, Entry, str], None]


def check_plugin(name: str, group: str | None = None) -> PluginReport:
    """Check the plugin `name` of `group` through the code that a command would use, and return a report with a row per check.

    Without a `group`, the name tells it. Raises `PluginError` if no package provides the name, and `ConfigError` if several groups
    have it.
    """
    family = name.partition("/")[0]
    group = group or _group_of(family)
    rivals = find(group).get(family, [])
    place, why = standing(rivals[0], rivals) if rivals else ("own", "")
    if place == "taken":
        report = PluginReport(name, group)
        remedy = f"to check one of them: cnnkit plugins check {rivals[0].full_name}"
        report.results.append(CheckResult("name", ok=False, problem=f"{rivals[0].origin} has this name, but {why}", remedy=remedy))
        return report
    entry = choose(group, family)
    report = PluginReport(name, group, entry.package, entry.version)
    report.results.append(CheckResult("name", ok=True, note=entry.value))
    [loaded] = load_apart([entry], run=True)
    cut = (loaded.problem or "").removeprefix(f"{entry.described} ").removeprefix("does not load: ")
    report.results.append(CheckResult("loads", ok=not cut, problem=shortened(cut), remedy=_load_remedy(entry) if cut else ""))
    if not cut:
        problem = f"writes {loaded.printed!r} to stdout, which is for the results of commands" if loaded.printed else ""
        remedy = "remove the print, or use logging" if problem else ""
        report.results.append(CheckResult("stdout", ok=not problem, problem=problem, remedy=remedy))
        CHECKS.get(group, group_checks.check_extension)(report, entry, name)
    return report


def _group_of(name: str) -> str:
    """Return the one group that has an entry `name`, with or without its package."""
    package, _, plain = name.rpartition(":")
    entries = list(find_all())
    found = list(dict.fromkeys(entry.group for entry in entries if entry.name == plain and package in {"", entry.package}))
    if len(found) > 1:
        groups = " or ".join(f"--group {short_name(group)}" for group in found)
        raise ConfigError(f"several groups of plugins have the name {name!r}; add {groups}")
    if not found:
        near = closest(plain, {entry.name for entry in entries})
        raise PluginError(f"no plugin named {name!r} is installed{near} List the installed ones with: cnnkit plugins list")
    return found[0]


def _load_remedy(entry: Entry) -> str:
    module, _, attribute = entry.value.partition(":")
    return f"{module} must import and define {attribute}, as the entry point {entry.value} says; try: python -c 'import {module}'"


CHECKS: dict[str, GroupChecks] = {  # of the groups that have checks of their own
    ARCHITECTURES: architecture_checks.check,
    SOURCES: group_checks.check_source,
    EXPORTERS: group_checks.check_exporter,
    TRACKERS: group_checks.check_tracker,
}
