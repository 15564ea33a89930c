"""The flags of ``cnnkit eval`` that give a model its rules of when not to answer, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnnkit.cli import console
from cnnkit.errors import ConfigError

if TYPE_CHECKING:
    from cnnkit.api.evaluation.fit_rules import FittedRules


def decide(model: Path | None, abstain_risk: str | None, sets: str | None) -> FittedRules | None:
    """Set or remove the rules that were asked for and say so; None if none was. `abstain_risk` and `sets` are a share, or none."""
    if abstain_risk is None and sets is None:
        return None
    risk, coverage = _share("--abstain-risk", abstain_risk, "0.02"), _share("--sets", sets, "0.95")
    from cnnkit.api.evaluation.fit_rules import decide as run_decision

    screen = console.err()
    with console.progress(screen, "reading val images") as update:
        decided = run_decision(model, abstain_risk=risk, sets=coverage, progress=update)
    from cnnkit.report.terminal.selective import abstention_sentence, label_sets_sentence

    rules = decided.rules
    if risk is not None:
        console.labelled(screen, "rule", abstention_sentence(rules.abstention) if rules.abstention else "every image is answered again")
    if coverage is not None:
        console.labelled(screen, "rule", label_sets_sentence(rules.label_sets) if rules.label_sets else "answers have no label set again")
    if decided.outdated:
        older = ", ".join(path.name for path in decided.outdated)
        console.labelled(screen, "note", f"exported before, with other rules: {older}; export anew: cnnkit export --onnx", "yellow")
    return decided


def _share(flag: str, text: str | None, example: str) -> float | Literal["none"] | None:
    if text is None or text.lower() == "none":
        return None if text is None else "none"
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise ConfigError(f"{flag} {text}: it must be a share between 0 and 1, such as {example}, or none to take the rule away")
    return share
