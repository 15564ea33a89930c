"""The stored metrics of an evaluation, metrics.json: every score with its interval, and the images on which it was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cnnkit.files import write_json
from cnnkit.run_dir.document import Count, Document, Part, Real, Text, UnreadableImage, YesNo
from cnnkit.run_dir.record import OptionValue, SplitCounts

METRICS_FILE = "metrics.json"


class StoredEstimate(Part):
    """A value with the ends of its 95 % interval; None if the images do not define it."""

    value: Real | None
    low: Real | None
    high: Real | None


class StoredShare(Part):
    """A share of at least one image with the ends of its 95 % interval, in [0, 1]; a difference of two shares is in [-1, 1]."""

    value: Real
    low: Real
    high: Real


class StoredTopK(StoredShare):
    """The share of images whose true class is among the `k` most probable classes."""

    k: Annotated[Count, Field(ge=1)]


class StoredBin(Part):
    """The images with a confidence from `low` to `high`: their number, their mean confidence and their accuracy."""

    low: Real
    high: Real
    count: Annotated[Count, Field(ge=1)]
    confidence: Real
    accuracy: StoredShare


class StoredBaseline(Part):
    """A simple predictor, and its comparison with the model on the same images."""

    name: Text
    summary: Text
    accuracy: StoredShare
    trained_on: Count
    difference: StoredShare
    only_model_right: Count
    only_baseline_right: Count
    mcnemar_p: Real
    beaten: YesNo


class StoredClassScore(Part):
    """The scores of one class in [0, 1] with the ends of their intervals, on `support` images; an undefined score is None."""

    name: Text = Field(alias="class")
    precision: Real | None
    recall: Real | None
    f1: Real | None
    support: Count
    units: Count | None = None
    few: YesNo
    precision_low: Real
    precision_high: Real
    recall_low: Real
    recall_high: Real
    f1_low: Real
    f1_high: Real


class StoredConfidence(Part):
    """The confidence on the evaluated images: calibration error, loss in nats per image, and the reliability diagram in numbers."""

    ece: StoredEstimate
    loss: StoredEstimate
    bins: tuple[StoredBin, ...]
    histogram: tuple[Count, ...]


class StoredFit(Part):
    """The fit of the temperature on `n` images of `split` and its effect there; `reason` says why the temperature stayed 1."""

    split: Text
    n: Count
    temperature: Real
    ece_before: StoredEstimate
    ece_after: StoredEstimate
    loss_before: Real
    loss_after: Real
    reason: Text


class StoredCalibration(Part):
    """The confidence `before` (at temperature 1) and `after` the temperature; `fitted_on` is None if no temperature was fitted."""

    temperature: Real
    ece_before: StoredEstimate
    ece_after: StoredEstimate
    change: Literal["none", "fell", "rose", "unclear"]
    before: StoredConfidence
    after: StoredConfidence
    fitted_on: StoredFit | None


class StoredOperating(Part):
    """The images that are accepted at a threshold: their share, their number and their errors; `risk` is None without an image."""

    coverage: Real
    threshold: Real
    answered: Count
    errors: Count
    risk: StoredEstimate


class StoredAbstention(Part):
    """The model's rule of abstention (`cnnkit.metrics.abstention.Abstention`) and its effect on the evaluated images."""

    threshold: Real
    risk: Real
    bound: Real
    confidence: Real
    coverage: Real
    answered: Count
    errors: Count
    n: Count
    split: Text
    evaluated: StoredOperating


class StoredSetOutcome(Part):
    """The label sets of the evaluated images: the share that holds the true class, and the number of images by size of the set."""

    coverage: StoredShare
    mean_size: Real
    single: Real
    sizes: dict[Text, Count]


class StoredLabelSets(Part):
    """The model's rule of label sets, and its effect on the evaluated images."""

    threshold: Real
    coverage: Real
    n: Count
    split: Text
    evaluated: StoredSetOutcome


class StoredImages(Part):
    """The evaluated images if they are not a whole split of the run.

    `source` names other data and `sha256` is the fingerprint of the measured images of it. The evaluation was restricted to `classes`,
    which is empty for all.
    """

    source: Text | None = None
    sha256: Text | None = None
    classes: tuple[Text, ...]


class StoredLookup(Part):
    """The lookup of `images` among those of `run`: the numbers found by content (`exact`) and as `near` copies, by split of the run.

    `included` is True if images of train and val were measured nevertheless; else they were left out. `by` names the methods.
    """

    run: Text
    images: Count
    exact: SplitCounts
    near: SplitCounts
    included: YesNo
    by: tuple[Text, ...]


class StoredOutOfDistribution(Part):
    """Out-of-distribution images: the share that the model accepts, and the AUROC of the highest probability."""

    n: Count
    threshold: Real
    stored_threshold: YesNo
    accepted: StoredShare
    in_distribution_answered: StoredShare
    auroc: StoredShare
    unreadable: tuple[UnreadableImage, ...]
    lookup: StoredLookup | None = None


class StoredViews(Part):
    """The views of every image over which the predictions are averaged."""

    views: Count
    mirror: Literal["none", "h", "v", "hv"]
    shift_pixels: Count
    mean_of: Text


class EvaluatedFile(Part):
    """The file of the evaluated model: its name and its SHA-256."""

    file: Text
    sha256: Text


class StoredScore(StoredEstimate):
    """The score of a metric of another package, its `package` with `version`, and its `options`."""

    summary: Text
    package: Text
    version: Text
    options: dict[Text, OptionValue]


class StoredMetrics(Document):
    """The metrics of one model on the `n` images of one split.

    Scores are in [0, 1], `loss` is in nats per image, `brier` in [0, 2]. `abstention`, `label_sets`, `ood`, `tta`, `images` and `lookup`
    are None, and missing in the file, if the evaluation had none. `opened` is the number of evaluations of the test split, 0 for other
    images. `metrics` holds the scores of other packages by the text of ``--metric``. `majority_class` is the most frequent class in train,
    None if that is unknown. The images are of `units` units; None in older files.
    """

    split: Text
    n: Annotated[Count, Field(ge=1)]
    accuracy: StoredShare
    loss: StoredEstimate
    macro_f1: StoredEstimate
    balanced_accuracy: StoredEstimate
    top5_accuracy: StoredShare | None
    top_k_accuracy: StoredTopK | None
    weighted_f1: Real | None
    weighted_f1_low: Real | None
    weighted_f1_high: Real | None
    roc_auc: StoredEstimate
    average_precision: StoredEstimate
    brier: StoredEstimate
    ece: StoredEstimate
    reliability: tuple[StoredBin, ...]
    majority_baseline: Real | None
    majority_class: Text | None
    baselines: tuple[StoredBaseline, ...]
    per_class: tuple[StoredClassScore, ...]
    calibration: StoredCalibration
    risk_coverage: tuple[StoredOperating, ...]
    abstention: StoredAbstention | None = None
    label_sets: StoredLabelSets | None = None
    ood: StoredOutOfDistribution | None = None
    tta: StoredViews | None = None
    images: StoredImages | None = None
    lookup: StoredLookup | None = None
    metrics: dict[Text, StoredScore] = Field(default={})
    model: EvaluatedFile
    unreadable: tuple[UnreadableImage, ...]
    opened: Count = 0
    units: Annotated[Count, Field(ge=1)] | None = None

    def is_whole(self, images: int) -> bool:
        """Tell whether the plain predictions of all `images` of a split of the run were evaluated, also by an older version."""
        return self.images is None and self.tta is None and self.n + len(self.unreadable) == images


def write_metrics(folder: Path, metrics: StoredMetrics) -> None:
    """Write metrics.json into `folder`, without the keys that were never set."""
    write_json(folder / METRICS_FILE, metrics.model_dump(mode="json", by_alias=True, exclude_unset=True))
