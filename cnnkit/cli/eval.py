"""``cnnkit eval``: the metrics of a model, each with its uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cnnkit.cli import console
from cnnkit.cli.options import IncludeTrainedFlag, JsonFlag, ModelOption, OtherDataOption, SplitOption
from cnnkit.cli.rules import set_rules
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.errors import ConfigError

if TYPE_CHECKING:
    from cnnkit.api.evaluation.evaluation import Evaluation


@with_options("classes", "device")
def command(
    given: dict[str, Any],
    *,
    model: ModelOption = None,
    data: OtherDataOption = None,
    include_trained: IncludeTrainedFlag = False,
    split: SplitOption = None,
    confusion: Annotated[bool, typer.Option("--confusion", help="Show the confusion matrix.")] = False,
    normalize: Annotated[
        Literal["true", "pred", "all", "none"],
        typer.Option(
            metavar="true|pred|all|none",
            help="Show the confusion matrix in percent of the true class (true), the predicted class (pred) or all images (all). "
            "none shows counts.",
        ),
    ] = "none",
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Measure the top-k accuracy: the share of images whose class is among the K most probable classes.",
            show_default="5",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure a metric of an installed package too, with its options after a colon, such as kappa:weights=linear. "
            "Repeat it for more metrics.",
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(metavar="X", help="Exit with 1 if the accuracy is below this share, such as 0.9.")
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write one column per class into predictions.csv.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the files. Default: one in eval of the run, such as eval/test."),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Test-time augmentation: average the logits over the mirrored and shifted views of the training."),
    ] = False,
    abstain_risk: Annotated[
        str | None,
        typer.Option(
            "--abstain-risk",
            metavar="X|none",
            help="Store a threshold in the model, below which it abstains. With 95 % confidence, at most this share of the other "
            "predictions is wrong, such as 0.02. The threshold is found on val. none removes it.",
        ),
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(
            "--sets",
            metavar="X|none",
            help="Store in the model label sets that hold the true class with this probability, such as 0.95. none removes them.",
        ),
    ] = None,
    ood: Annotated[
        Path | None,
        typer.Option(
            "--ood",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Folder of out-of-distribution images: count the images with a confident prediction.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Evaluate a model: metrics with 95 % intervals, a table per class, the confusion matrix.

    An evaluation on test opens the test split, and the opening is counted.

    \b
    cnnkit eval --confusion
    cnnkit eval --model runs/001-custom-cnn --data ./other-images
    """
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        hint = f"; for {min_accuracy:g} % type --min-accuracy {min_accuracy / 100:g}" if 1 < min_accuracy <= 100 else ""  # noqa: PLR2004
        raise ConfigError(f"--min-accuracy {min_accuracy:g}: must be a share from 0 to 1{hint}")
    from cnnkit.api.evaluation.evaluate import evaluate as run_evaluation

    screen = console.err()
    if tta and (abstain_risk or sets):
        raise ConfigError("--abstain-risk and --sets set rules for single views, but --tta averages several views: leave out --tta")
    set_rules(model, abstain_risk, sets, device=device_of(given))
    with console.progress(screen, "reading images") as update:
        result = run_evaluation(
            model,
            data=data,
            split=split,
            classes=resolve(by_section(given)).data.classes,
            out=out,
            all_probabilities=probabilities,
            top_k=top_k,
            normalize=normalize,
            metrics=tuple(metric or ()),
            tta=tta,
            ood=ood,
            include_trained=include_trained,
            device=device_of(given),
            progress=update,
        )
    console.say_model(result.target)
    console.say_notes(screen, (*result.notes, *(f"left out {path}: {reason}" for path, reason in result.bad)))
    if json:
        console.print_json(result.to_dict(confusion=True))
    else:
        _show(result, confusion=confusion or normalize != "none")
    if min_accuracy is not None:
        console.say_labelled(screen, "check", result.require_accuracy(min_accuracy))


def _show(result: Evaluation, *, confusion: bool) -> None:
    """Print the tables of `result` on stdout."""
    from cnnkit.api.evaluation.advice import few_images_advice
    from cnnkit.report.terminal.calibration import effect_line
    from cnnkit.report.terminal.confusion import confusion_table
    from cnnkit.report.terminal.selective import ood_sentence, risk_coverage_table
    from cnnkit.report.terminal.tables import headline, metrics_table, per_class_table

    shown = console.out()
    if result.heading:
        console.say(shown, result.heading)
        shown.print()
    shown.print(
        metrics_table(result.report, result.scores), "", per_class_table(result.report), "", risk_coverage_table(result.selective), sep="\n"
    )
    if result.ood:
        shown.print()
        console.say(shown, ood_sentence(result.ood.report, result.report.split))
    if confusion:
        shown.print()
        shown.print(confusion_table(result.report.confusion, result.report.classes, result.normalize))
    shown.print()
    console.say(shown, effect_line(result.effect))
    if result.folder is not None:
        console.say(shown, f"files {result.folder}")
    few = few_images_advice(result.target)
    if few:
        console.say_notes(shown, [few])
    console.say_end(shown, headline(result.report), f"cnnkit report{console.named(result.target)}")
