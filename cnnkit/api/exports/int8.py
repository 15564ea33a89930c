"""Quantisation of a model to 8-bit integers, kept if it is smaller or faster and its accuracy on val falls by little."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.exports.int8_result import Comparison, Int8Export, missing_gains, reason_against
from cnnkit.api.inference.drift import take_fingerprint
from cnnkit.api.inference.run_images import ImageCanvases, find_canvases
from cnnkit.api.inference.samples import Samples, other_samples, run_samples, spread
from cnnkit.api.inference.target import Target
from cnnkit.data.appearance import appearance
from cnnkit.data.image import decode_image
from cnnkit.data.source import TRAIN, VAL, Record
from cnnkit.errors import CheckFailedError, DataError
from cnnkit.exporters.onnx import OnnxClassifier, onnx_exporter
from cnnkit.exporters.parity import check_hard_images
from cnnkit.exporters.protocol import CANVAS, ExportOptions
from cnnkit.exporters.quantisation import CALIBRATION_BATCH, FULL_WEIGHT_BITS, SAFE_WEIGHT_BITS, add_rules, cpu_milliseconds, write_int8
from cnnkit.exporters.sidecars import write_sidecars
from cnnkit.files import write_bytes
from cnnkit.metrics.abstention import Shortfall, find_threshold
from cnnkit.metrics.conformal import fit_label_sets
from cnnkit.metrics.paired import paired_test
from cnnkit.metrics.temperature import calibrate, softmax
from cnnkit.metrics.temperature_effect import log_probabilities
from cnnkit.metrics.units import Units
from cnnkit.model.classifier import CanvasClassifier
from cnnkit.model.torch_classifier import TorchClassifier

if TYPE_CHECKING:
    import torch

    from cnnkit.model.file import Model
    from cnnkit.model.header import ModelHeader
    from cnnkit.model.preprocessing import Preprocessing

CALIBRATION_IMAGES = 256  # for the ranges of the activations
TIMED_IMAGES = 8  # in a batch
# Of a probability in another batch. Integers are summed exactly, and a level of an activation may round the other way.
BATCH_TOLERANCE = 2e-2
MIN_IMAGES = 2  # of --data: one for the ranges, one for the comparison

Tell = Callable[[str], object]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """The canvases of `paths` with labels (N,) and units, in the order of the store; `split` describes them."""

    found: ImageCanvases
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    units: Units
    split: str

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the canvases (n, C, S, S), batch by batch."""
        return (block for _, block in self.found.of(self.paths))

    def predict(self, classifier: CanvasClassifier) -> NDArray[np.float32]:
        """Return the probabilities (N, K) of `classifier`."""
        return np.concatenate([classifier.predict_canvases(block) for block in self.batches()])

    @property
    def sample(self) -> NDArray[np.uint8]:
        """The first `TIMED_IMAGES` canvases, (n, S, S, C)."""
        return _channels_last(next(self.batches())[:TIMED_IMAGES])


def export_int8(
    target: Target,
    exported: Path,
    model: Model,
    chosen: ExportOptions,
    data: str | None,
    max_loss: float,
    device: torch.device,
    tell: Tell,
) -> Int8Export:
    """Quantise `model` of `target` beside the file `exported`, and keep the new file if it wins.

    `chosen` are the options of `exported`. The rules are fitted to the quantised file, and its accuracy is compared with that of the model
    on `device`. The ranges come from the training images of the run, or from every second image of `data`; the rest of `data` is then val.
    Raises `DataError` if there are no such images, `CheckFailedError` if the predictions depend on the batch.
    """
    plain_options = replace(chosen, input=CANVAS)
    options = replace(plain_options, int8=True)
    path = exported.with_name(f"{exported.stem}-int8{exported.suffix}")
    tell("reading the images for int8")
    ranges, val = _images(target, model, data)
    with TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        plain, final = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        tell(f"writing {path.name}")
        onnx_exporter.write_file(model, plain, plain_options)
        expected = val.predict(TorchClassifier(model, device=device))
        for bits in (SAFE_WEIGHT_BITS, FULL_WEIGHT_BITS):
            logits = Path(folder) / f"logits-{bits}.onnx"
            write_int8(model, logits, map(_channels_last, _small(ranges.batches())), plain_options, weight_bits=bits)
            tell(f"comparing {path.name} with the model")
            header, lost = _refit(model.header, log_probabilities(val.predict(OnnxClassifier(logits))), val)
            add_rules(logits, final, header, options)
            classifier = OnnxClassifier(final)
            _check_batches(classifier, path)
            found = _compare(expected, val.predict(classifier), val)
            milliseconds = cpu_milliseconds((plain, final), val.sample)
            result = Int8Export(
                path=None,
                reason="",
                calibration_images=len(ranges.paths),
                weight_bits=bits,
                comparison=found,
                sizes=(plain.stat().st_size, final.stat().st_size),
                cpu_ms=(milliseconds[0], milliseconds[1]),
                max_loss=max_loss,
                header=header,
                options=options,
            )
            result = replace(result, reason=reason_against(result), notes=(*missing_gains(result), *lost))
            if not result.reason:
                return _keep(result, final, path)
            tell(f"{path.name} with weights in {bits} bits: {result.reason}")
        return result


def _compare(expected: NDArray[np.float32], found: NDArray[np.float32], val: LabelledImages) -> Comparison:
    """Compare probabilities (N, K) of the model and of the file on the same images."""
    first, second = (rows.argmax(1) == val.labels for rows in (expected, found))
    differences = np.abs(expected.astype(np.float64) - found).max(1)
    return Comparison(
        n=len(val.labels),
        split=val.split,
        accuracies=(float(first.mean()), float(second.mean())),
        test=paired_test(first, second, val.units),
        top1_agreement=float((expected.argmax(1) == found.argmax(1)).mean()),
        max_abs_probability_difference=float(differences.max()),
        mean_abs_probability_difference=float(differences.mean()),
    )


def _images(target: Target, model: Model, data: str | None) -> tuple[LabelledImages, LabelledImages]:
    """Return the images for the ranges of the activations and those for the comparison."""
    classes, spec = model.header.classes, model.header.preprocessing
    if data is None and target.run is not None:
        run = target.run
        train, val = run_samples(run, TRAIN), run_samples(run, VAL)
        chosen = spread(train.records, CALIBRATION_IMAGES)
        return _labelled(train, chosen, spec, classes, TRAIN), _labelled(val, val.records, spec, classes, VAL)
    samples = other_samples(data or "", None, classes)
    if len(samples.records) < MIN_IMAGES:
        raise DataError(f"--int8: {samples.source.name} has one image, and the ranges and the comparison need one each; add more")
    ranges = spread(samples.records[::2], CALIBRATION_IMAGES)
    named = f"every second of the {samples.split} images of {samples.source.name}"
    return _labelled(samples, ranges, spec, classes, named), _labelled(samples, samples.records[1::2], spec, classes, named)


def _labelled(samples: Samples, records: Sequence[Record], spec: Preprocessing, classes: Sequence[str], split: str) -> LabelledImages:
    """Return the readable images of `records` as canvases; raises `DataError` if there are none."""
    found = find_canvases(samples.source, samples.scope, [record.path for record in records], spec)
    known = sorted((record for record in records if record.path in found.rows), key=lambda record: found.rows[record.path])
    if not known:
        raise DataError(f"--int8: none of the {len(records)} {split} images of {samples.source.name} can be read; restore them")
    index = {name: number for number, name in enumerate(classes)}
    labels = np.array([index[record.label] for record in known], np.int64)
    units = Units.of([samples.units.get(record.path, record.path) for record in known])
    return LabelledImages(found, tuple(record.path for record in known), labels, units, split)


def _channels_last(canvases: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(canvases.transpose(0, 2, 3, 1))


def _small(blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield the canvases of `blocks` in batches of `CALIBRATION_BATCH`: all activations of a batch are in memory."""
    return (block[start : start + CALIBRATION_BATCH] for block in blocks for start in range(0, len(block), CALIBRATION_BATCH))


def _refit(header: ModelHeader, scores: NDArray[np.float64], val: LabelledImages) -> tuple[ModelHeader, tuple[str, ...]]:
    """Return `header` with its rules fitted to the `scores` (N, K) of the quantised file, and a sentence for each rule that is lost.

    A model without a rule gets none. The guarantees assume independent images, so one image of each unit takes part in them.
    """
    fitted = calibrate(scores, val.labels, val.split, val.units)
    temperature = fitted.temperature if fitted else 1.0
    probabilities = softmax(scores, temperature).astype(np.float32)
    changed: dict[str, Any] = {"temperature": temperature, "calibration": fitted}
    lost: tuple[str, ...] = ()
    rows = val.units.one_image_each
    labels, independent = val.labels[rows], probabilities[rows]
    if header.abstention:
        risk = header.abstention.risk
        rule = find_threshold(independent.max(1), independent.argmax(1) != labels, risk, split=val.split)
        changed["abstention"] = None if isinstance(rule, Shortfall) else rule
        if isinstance(rule, Shortfall):
            lost = (f"it has no threshold: no threshold guarantees at most {100 * risk:g} % wrong predictions on {rule.n} images",)
    if header.label_sets:
        changed["label_sets"] = fit_label_sets(labels, independent, header.label_sets.coverage, split=val.split)
    if header.fingerprint:
        looks = np.concatenate([appearance(block) for block in val.batches()])
        changed["fingerprint"] = take_fingerprint(looks, probabilities, split=val.split)
    return header.model_copy(update=changed), lost


def _check_batches(classifier: OnnxClassifier, path: Path) -> None:
    """Raise `CheckFailedError` unless an image has the same probabilities alone and in a batch, at extreme sizes too."""
    for name, parity in check_hard_images(_OneByOne(classifier), classifier, tolerance=BATCH_TOLERANCE).items():
        if parity.max_abs_probability_difference > BATCH_TOLERANCE:
            raise CheckFailedError(
                f"{path}: not kept, as its predictions depend on the other images of a batch ({name}; worst: {parity.worst}); "
                "leave out --int8"
            )


@dataclass(frozen=True)
class _OneByOne:
    """A classifier that gets each image in a batch of its own."""

    found: OnnxClassifier

    @property
    def classes(self) -> tuple[str, ...]:
        return self.found.classes

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.concatenate([self.found.probabilities([image]) for image in images])


def _keep(result: Int8Export, final: Path, path: Path) -> Int8Export:
    """Copy the file `final` to `path`, write the files beside it, and return the result with its path."""
    write_bytes(path, final.read_bytes())
    kept = replace(result, path=path)
    write_sidecars(path, result.header, onnx_exporter, result.options, OnnxClassifier(path), decode_image, kept.to_dict())
    return kept
