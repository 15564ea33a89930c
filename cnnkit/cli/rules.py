"""The flags of ``cnnkit eval`` that store rules in a model: abstention and label sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnnkit.cli import console
from cnnkit.errors import ConfigError

if TYPE_CHECKING:
    from cnnkit.api.evaluation.fit_rules import FittedRules


def set_rules(model: Path | None, abstain_risk: str | None, sets: str | None, *, device: str) -> FittedRules | None:
    """Set or remove the rules of `model` and print them on stderr; return None if neither flag is given.

    `abstain_risk` and `sets` are a share in (0, 1), or "none", which removes the rule. Raises `ConfigError` for any other value.
    """
    if abstain_risk is None and sets is None:
        return None
    risk, coverage = _share("--abstain-risk", abstain_risk, "0.02"), _share("--sets", sets, "0.95")
    from cnnkit.api.evaluation.fit_rules import decide

    screen = console.err()
    with console.progress(screen, "reading val images") as update:
        decided = decide(model, abstain_risk=risk, sets=coverage, device=device, progress=update)
    from cnnkit.report.terminal.selective import abstention_sentence, label_sets_sentence

    rules = decided.rules
    if risk is not None:
        text = abstention_sentence(rules.abstention) if rules.abstention else "threshold removed: the model predicts every image"
        console.say_labelled(screen, "rule", text)
    if coverage is not None:
        text = label_sets_sentence(rules.label_sets) if rules.label_sets else "label sets removed: each image has only its predicted class"
        console.say_labelled(screen, "rule", text)
    if decided.outdated:
        names = ", ".join(path.name for path in decided.outdated)
        text = f"these exported files have other rules: {names}; export the model again: cnnkit export --onnx"
        console.say_notes(screen, [text])
    return decided


def _share(flag: str, text: str | None, example: str) -> float | Literal["none"] | None:
    if text is None or text.lower() == "none":
        return None if text is None else "none"
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise ConfigError(f"{flag} {text}: must be a share between 0 and 1, such as {example}, or none, which removes the rule")
    return share
