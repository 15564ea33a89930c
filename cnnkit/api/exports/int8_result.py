"""The result of a quantisation: its comparison with the model, its gains, and the reason to keep the file or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.exporters.protocol import ExportOptions
from cnnkit.exporters.quantisation import SAFE_WEIGHT_BITS
from cnnkit.metrics.paired import PairedTest

if TYPE_CHECKING:
    from cnnkit.model.header import ModelHeader

FASTER = 0.95  # of the CPU time: less is no difference that a user would notice


@dataclass(frozen=True)
class Comparison:
    """The predictions of the model and of the quantised file on the same `n` images of `split`.

    `accuracies` are those of 32 bits and of int8, `test` compares them.
    """

    n: int
    split: str
    accuracies: tuple[float, float]
    test: PairedTest
    top1_agreement: float
    max_abs_probability_difference: float
    mean_abs_probability_difference: float

    def to_dict(self) -> dict[str, Any]:
        """Return the value for JSON."""
        return {
            "n": self.n,
            "split": self.split,
            "top1_agreement": self.top1_agreement,
            "max_abs_probability_difference": self.max_abs_probability_difference,
            "mean_abs_probability_difference": self.mean_abs_probability_difference,
            "accuracy": {"fp32": self.accuracies[0], "int8": self.accuracies[1]},
            "accuracy_difference": self.test.difference.to_dict(),
            "p": self.test.p,
            "counts": asdict(self.test.counts),
        }


@dataclass(frozen=True)
class Int8Export:
    """A quantised file beside the file in 32 bits; `path` is None if it was not kept, for the `reason`.

    `sizes` in bytes and `cpu_ms` for one image are those of 32 bits and of int8, both on canvases. `weight_bits` are used of the 8 bits of
    a weight. `notes` are the gains that it does not bring, and rules that were lost.
    """

    path: Path | None
    reason: str
    comparison: Comparison
    calibration_images: int
    weight_bits: int
    sizes: tuple[int, int]
    cpu_ms: tuple[float, float]
    max_loss: float
    header: ModelHeader
    options: ExportOptions
    notes: tuple[str, ...] = ()

    @property
    def is_smaller(self) -> bool:
        """Whether the file takes fewer bytes."""
        return self.sizes[1] < self.sizes[0]

    @property
    def is_faster(self) -> bool:
        """Whether an image takes clearly less CPU time."""
        return self.cpu_ms[1] < FASTER * self.cpu_ms[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``model-int8-parity.json``."""
        pairs = {"bytes": self.sizes, "cpu_ms_per_image": self.cpu_ms}
        return {
            "kept": self.path is not None,
            "reason": self.reason,
            "path": None if self.path is None else str(self.path),
            **self.comparison.to_dict(),
            **{name: {"fp32": values[0], "int8": values[1]} for name, values in pairs.items()},
            "max_loss": self.max_loss,
            "calibration_images": self.calibration_images,
            "weight_bits": self.weight_bits,
            "temperature": self.header.temperature,
            "threshold": self.header.abstention.threshold if self.header.abstention else None,
            "notes": list(self.notes),
        }


def reason_against(result: Int8Export) -> str:
    """Return the reason not to keep the file; an empty text if it wins."""
    found = result.comparison
    loss = -found.test.difference.value
    if loss > result.max_loss:
        return f"it costs {100 * loss:.1f} % accuracy on {found.n} {found.split} images, and --max-loss allows {100 * result.max_loss:g} %"
    if not (result.is_smaller or result.is_faster):
        return "it is neither smaller nor faster than the file in 32 bits"
    return ""


def missing_gains(result: Int8Export) -> tuple[str, ...]:
    """Return a sentence for each gain that the file does not bring, for a loss that the images cannot exclude, and for old processors."""
    found: list[str] = []
    if not result.is_smaller:
        found.append(f"it is not smaller: {result.sizes[1]:,} bytes, {result.sizes[0]:,} in 32 bits")
    if not result.is_faster:
        found.append(f"it is not faster on this machine: {result.cpu_ms[1]:.2f} CPU-ms an image, {result.cpu_ms[0]:.2f} in 32 bits")
    low = -result.comparison.test.difference.low
    if low > result.max_loss:
        found.append(f"{result.comparison.n} images cannot exclude a loss of {100 * low:.1f} %")
    if result.weight_bits > SAFE_WEIGHT_BITS:
        found.append("its weights need 8 bits, so it may predict worse on processors without VNNI instructions: run its infer.py there")
    return tuple(found)
