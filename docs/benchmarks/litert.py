"""The certificate of ``.tflite`` files over varied networks, with random weights and non-trivial statistics.

    python docs/benchmarks/litert.py [--half] [--json FILE] [NAME...]

It needs Linux and the plugin cnnkit-litert with the extra ``write``. The networks are made as those of `exports.py`.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from document import Table, add_option, save
from exports import PHOTOS, SEED, random_model

# Name and image size in px: small ones, so that the networks and not the pixels take the time.
NETWORKS = {
    "custom-cnn": 64, "residual-cnn": 64, "deep-cnn-8": 64, "timm/resnet18": 64, "timm/mobilenetv3_small_100": 64,
    "timm/tf_efficientnet_lite0": 64, "timm/efficientnet_b0": 64, "timm/convnext_atto": 64, "timm/vit_tiny_patch16_224": 64,
    "timm/mobilevit_xxs": 64, "timm/swin_tiny_patch4_window7_224": 224,
}  # fmt: skip


def measure(name: str, image_size: int, *, half: bool) -> tuple[list[str], float]:
    """Export one network and compare the file with it; return the cells of its row, and its largest difference (infinite: it failed)."""
    from cnnkit.errors import CnnkitError
    from cnnkit.exporters.opening import load_exporter
    from cnnkit.exporters.parity import HALF_TOLERANCE, TOLERANCE, certify, sample_photos
    from cnnkit.model.torch_classifier import TorchClassifier

    model, exporter = random_model(name, image_size), load_exporter("litert")
    parameters = f"{sum(tensor.numel() for tensor in model.module.parameters()) / 1e6:.1f}"
    with tempfile.TemporaryDirectory() as folder:
        path, before = Path(folder) / "model.tflite", cpu_seconds()
        try:
            exporter.write_file(model, path, exporter.options(half=half))
        except CnnkitError as error:
            return [name, str(image_size), parameters, "—", "—", "failed", str(error)], float("inf")
        seconds = cpu_seconds() - before
        tolerance = HALF_TOLERANCE if half else TOLERANCE
        found = certify(TorchClassifier(model), exporter.open(path), sample_photos(PHOTOS), tolerance=tolerance)
        size = path.stat().st_size
    reason = f"{found.failed[0] or 'photographs'}: {found.failed[1].worst}" if found.failed else ""
    difference = found.largest_difference if not reason else float("inf")
    cells = [name, str(image_size), parameters, f"{size / 1e6:.1f}", f"{seconds:.0f}", f"{found.largest_difference:.0e}", reason]
    return cells, difference


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Measure the networks and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks of the table (default: all)")
    parser.add_argument("--half", action="store_true", help="store the weights in 16 bits")
    add_option(parser)
    given = parser.parse_args()
    if unknown := set(given.names) - NETWORKS.keys():
        sys.exit(f"{', '.join(sorted(unknown))}: no network of the table; it has {', '.join(NETWORKS)}")
    table = Table("network", "px", "million parameters", "MB", "CPU-s", "largest difference of a probability", "failure")
    differences: list[float] = []
    for name in given.names or NETWORKS:
        cells, difference = measure(name, NETWORKS[name], half=given.half)
        table.add(*cells)
        differences.append(difference)
    passed = [difference for difference in differences if difference < float("inf")]
    tolerance = "2e-2" if given.half else "1e-3"
    save(
        given.json,
        "LiteRT files with weights in 16 bits" if given.half else "LiteRT files of varied networks",
        f"{len(passed)} of {len(differences)} networks pass the certificate as `.tflite`{' with `--half`' * given.half}, "
        f"with a largest difference of {max(passed):.0e}.",
        table.columns,
        table.rows,
        seeds=[SEED],
        notes=[
            f"The difference is that from torch, on {PHOTOS} photographs and the hard images. The tolerance is {tolerance}.",
            "Weights are random. BatchNorm statistics are those of the photographs, moved at random.",
            "CPU-s is the time of writing the file, with the start of litert-torch.",
        ],
    )


if __name__ == "__main__":
    main()
