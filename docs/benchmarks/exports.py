"""The certificate of exported files over varied networks of timm, with random weights and non-trivial statistics.

    python docs/benchmarks/exports.py --state STATE.jsonl [--json FILE] [--seconds 1800] [--kinds images,canvas,float,half] [NAME...]

It needs Linux. Each network is exported in a process of its own, for each kind of input, and compared with torch on photographs and on the
hard images of the parity check. Its BatchNorm statistics are those of photographs, moved at random, and its logits are spread, so that
a fault is visible. STATE keeps finished networks: the same command goes on where it stopped. No weights are downloaded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from document import Table, add_option, save

# Name and image size in px: small ones, so that the networks and not the pixels take the time.
NETWORKS = {
    "resnet18": 64, "resnet26d": 64, "seresnet18": 64, "skresnet18": 64, "resnext26ts": 64, "resnetblur18": 64, "gcresnext26ts": 64,
    "eca_resnext26ts": 64, "resnetv2_18": 64, "res2net50_14w_8s": 64, "wide_resnet50_2": 64, "mobilenetv2_100": 64,
    "mobilenetv3_small_100": 64, "mobilenetv4_conv_small": 64, "tf_efficientnet_lite0": 64, "efficientnet_b0": 64,
    "tf_efficientnetv2_b0": 64, "mnasnet_100": 64, "fbnetc_100": 64, "hardcorenas_a": 64, "ghostnet_100": 64, "lcnet_050": 64,
    "rexnet_100": 64, "regnetx_002": 64, "regnety_002": 64, "repvgg_a0": 64, "mobileone_s0": 64, "densenet121": 64, "dla34": 64,
    "darknet53": 64, "cspresnet50": 64, "vovnet39a": 64, "hrnet_w18_small": 64, "selecsls42b": 64, "vgg11_bn": 64, "inception_v3": 96,
    "xception41": 64, "convnext_atto": 64, "convnextv2_atto": 64, "edgenext_xx_small": 64, "fastvit_t8": 64, "starnet_s1": 64,
    "inception_next_atto": 64, "nfnet_l0": 64, "vit_tiny_patch16_224": 64, "deit_tiny_patch16_224": 64, "cait_xxs24_224": 64,
    "swin_tiny_patch4_window7_224": 224, "poolformer_s12": 64, "mixer_s32_224": 64, "gmlp_s16_224": 64, "resmlp_12_224": 64,
    "levit_128s": 224, "efficientformer_l1": 224, "mobilevit_xxs": 64, "mobilevitv2_050": 64, "coat_tiny": 64, "convmixer_768_32": 64,
    "pvt_v2_b0": 64, "maxvit_pico_rw_256": 256, "beit_base_patch16_224": 224, "xcit_nano_12_p16_224": 64, "visformer_tiny": 224,
    "tiny_vit_5m_224": 224, "repvit_m1": 64, "efficientvit_b0": 64, "ghostnetv2_100": 64, "hgnet_tiny": 64, "focalnet_tiny_srf": 64,
    "davit_tiny": 64,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "images": {},
    "canvas": {"input": "canvas"},
    "float": {"input": "float", "output": "logits"},
    "half": {"input": "canvas", "half": True},
}
MAX_LOGIT = 50.0  # before the mean is subtracted: more would amplify the rounding of float32
MAX_HIDING = 1e-2  # of the entries of a layer scale; timm starts those at 1e-6 to 1e-2
MIN_VARIANCE_SHARE = 0.1  # of the mean variance of a layer
CLASSES, PHOTOS, SEED = 10, 24, 0
SPREAD, TEMPERATURE = 2.0, 1.7  # standard deviation of the logits over photographs and classes, after the temperature
LIMIT_SECONDS = 900  # of one network and kind
MAX_REASON = 160  # characters of an error


def measure(name: str, image_size: int, kind: str) -> dict[str, Any]:
    """Export one network in one kind; return the largest difference, the agreement, the size and the CPU seconds."""
    from cnnkit.exporters.onnx import onnx_exporter
    from cnnkit.exporters.parity import HALF_TOLERANCE, TOLERANCE, certify, sample_photos
    from cnnkit.model.torch_classifier import TorchClassifier

    model = random_model(f"timm/{name}", image_size)
    options = onnx_exporter.options(**KINDS[kind])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        began = time.process_time()
        onnx_exporter.write_file(model, path, options)
        seconds = time.process_time() - began
        tolerance = HALF_TOLERANCE if options.half else TOLERANCE
        found = certify(TorchClassifier(model), onnx_exporter.open(path), sample_photos(PHOTOS), tolerance=tolerance)
        size = path.stat().st_size
    failed = found.failed
    return {
        "difference": found.largest_difference,
        "passed": failed is None,
        "reason": f"{failed[0] or 'photographs'}: {failed[1].worst}" if failed else "",
        "bytes": size,
        "cpu_seconds": seconds,
        "spread": _spread(model, sample_photos(PHOTOS)),
        "parameters": sum(tensor.numel() for tensor in model.module.parameters()),
    }


def random_model(name: str, image_size: int) -> Any:
    """Return network `name` with random weights and statistics, and logits of the standard deviation `SPREAD` or, by `MAX_LOGIT`, less."""
    import torch
    from torch import nn

    from cnnkit.exporters.parity import sample_photos
    from cnnkit.model.file import Model
    from cnnkit.model.header import ModelHeader
    from cnnkit.model.preprocess import Preprocess
    from cnnkit.model.preprocessing import Preprocessing
    from cnnkit.registry import load_architecture

    class _Scaled(nn.Module):
        """The logits with the mean 0 and a standard deviation at which a fault is visible."""

        def __init__(self, factor: float, mean: torch.Tensor) -> None:
            super().__init__()
            self.factor = factor
            self.register_buffer("mean", mean.clone())

        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return (logits - self.mean) * self.factor

    torch.manual_seed(SEED)
    architecture, _ = load_architecture(name)
    options: dict[str, Any] = {"image_size": image_size} if "image_size" in signature(architecture.build).parameters else {}
    module = architecture.build(CLASSES, 3, **options).eval()
    spec = Preprocessing(image_size=image_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875, interpolation="bicubic")
    preprocess = Preprocess(spec)
    with torch.no_grad():
        photographs = preprocess.normalise(preprocess.canvases(sample_photos(PHOTOS)))
        _show_all_layers(module)
        _vary_statistics(module, photographs)
        logits = module(photographs).float()
    spread = float((logits - logits.mean(0)).std())  # over photographs: an offset of a class hides no fault
    factor = min(SPREAD * TEMPERATURE / spread, MAX_LOGIT / float(logits.abs().max()))
    module = nn.Sequential(module, _Scaled(factor, logits.mean(0))).eval()
    classes = tuple(f"class {index}" for index in range(CLASSES))
    header = ModelHeader(arch=name, options=options, classes=classes, preprocessing=spec, temperature=TEMPERATURE)
    return Model(module, header, Path(f"{name.rpartition('/')[2]}.safetensors"))


def _show_all_layers(module: Any) -> None:
    """Give random values to parameters that start at zero or nearly so, such as a last layer or a layer scale: they hide other layers."""
    for parameter in module.parameters():
        largest = float(parameter.abs().max())
        if parameter.ndim > 1 and not largest:
            parameter.normal_(0, 0.02)
        elif 0 < largest <= MAX_HIDING:
            parameter.uniform_(0.1, 1)


def _vary_statistics(module: Any, images: Any) -> None:
    """Give each BatchNorm layer the statistics of `images`, moved at random, so that its outputs differ between images.

    A channel that hardly varies on the few images gets a larger variance, because a tiny one would amplify the rounding.
    """
    from torch import nn

    norms: list[Any] = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    norms = [layer for layer in norms if layer.running_mean is not None and layer.running_var is not None]
    for layer in norms:
        layer.momentum = 1.0  # the statistics of the one batch that follows
        if layer.weight is not None:
            layer.weight.uniform_(0.5, 1.5)
        layer.train()
    if norms:
        module(images)
    for layer in norms:
        layer.eval()
        layer.running_var.clamp_(min=MIN_VARIANCE_SHARE * float(layer.running_var.mean()))
        deviation = layer.running_var.sqrt()
        layer.running_mean.add_(deviation * deviation.new_empty(deviation.shape).normal_(0, 0.2))
        layer.running_var.mul_(deviation.new_empty(deviation.shape).uniform_(0.5, 2))


def _spread(model: Any, photos: list[Any]) -> float:
    """Return the standard deviation of the logits over photographs, after the temperature."""
    import numpy as np

    from cnnkit.model.torch_classifier import TorchClassifier

    logs = np.log(np.maximum(TorchClassifier(model).probabilities(photos), np.finfo(np.float32).tiny))
    return float((logs - logs.mean(0)).std())


def in_a_process(name: str, image_size: int, kind: str) -> dict[str, Any]:
    """Return the result of `measure` in a copy of this process, or the reason why there is none."""
    context = multiprocessing.get_context("fork")  # the libraries are loaded once
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, name, image_size, kind))
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv() if here.poll(LIMIT_SECONDS) else {"passed": False, "reason": f"more than {LIMIT_SECONDS} s"}
    except EOFError:
        found = {"passed": False, "reason": "its process ended"}
    process.kill()
    process.join()
    return found


def _send(pipe: Any, name: str, image_size: int, kind: str) -> None:
    try:
        pipe.send(measure(name, image_size, kind))
    except Exception as error:  # noqa: BLE001 (the failure of a network is a result)
        pipe.send({"passed": False, "reason": _reason(error)})


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost cause that torch names, without its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in reversed(lines) if "Error" in line.partition(":")[0]), lines[0] if lines else "")
    return f"{type(error).__name__}: {cause}"[:MAX_REASON]


def main() -> None:
    """Measure all networks that STATE lacks, within the time, and print the table of all finished ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks of the table (default: all)")
    parser.add_argument("--state", type=Path, default=Path("exports-state.jsonl"), help="file of finished networks")
    parser.add_argument("--seconds", type=float, default=1800, help="start no network after this time")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds to measure")
    add_option(parser)
    given = parser.parse_args()
    done: dict[tuple[str, str], dict[str, Any]] = {}
    if given.state.exists():
        for line in given.state.read_text("utf-8").splitlines():
            row = json.loads(line)
            done[row["name"], row["kind"]] = row
    for library in ("timm", "torch.onnx", "onnxscript", "onnxruntime", "sklearn.datasets"):
        import_module(library)  # before the first copy of this process
    end = time.monotonic() + given.seconds
    for kind in given.kinds.split(","):
        for name in given.names or NETWORKS:
            if (name, kind) in done or time.monotonic() > end:
                continue
            row = {"name": name, "kind": kind, **in_a_process(name, NETWORKS[name], kind)}
            done[name, kind] = row
            with given.state.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(name, kind, row, file=sys.stderr, flush=True)
    report(done, given)


def report(done: dict[tuple[str, str], dict[str, Any]], given: argparse.Namespace) -> None:
    """Print the table of finished networks, and write the document."""
    table = Table("network", "px", "million parameters", "spread", *KINDS, "CPU-s", "failure")
    names = [name for name in NETWORKS if any((name, kind) in done for kind in KINDS)]
    for name in names:
        rows = {kind: done[name, kind] for kind in KINDS if (name, kind) in done}
        first = next((row for row in rows.values() if "parameters" in row), {})
        cells = [_cell(rows.get(kind)) for kind in KINDS]
        failures = "; ".join(f"{kind}: {row['reason']}" for kind, row in rows.items() if not row["passed"])
        size = f"{first['parameters'] / 1e6:.1f}" if first else "—"
        spread = f"{first['spread']:.1f}" if first else "—"
        seconds = f"{first['cpu_seconds']:.0f}" if first else "—"
        table.add(name, str(NETWORKS[name]), size, spread, *cells, seconds, failures)
    good = [name for name in names if all(done[name, kind]["passed"] for kind in KINDS if (name, kind) in done)]
    largest = {kind: _largest(done, kind) for kind in KINDS}
    save(
        given.json,
        "Exports of varied networks",
        f"{len(good)} of {len(names)} networks pass the certificate in every measured kind.",
        table.columns,
        table.rows,
        seeds=[SEED],
        notes=[
            "A cell is the largest difference of a probability from torch, on 24 photographs and the hard images of the parity check.",
            "Weights are random. BatchNorm statistics are those of the photographs, moved at random.",
            "Spread is the standard deviation of the logits over the photographs.",
            "A dash is not measured.",
            f"The largest passing differences: {', '.join(f'{kind} {value:.0e}' for kind, value in largest.items() if value)}.",
            "Canvas and float are kinds of the input; half computes in 16 bits on canvases, with a tolerance of 2e-2 instead of 1e-3.",
        ],
    )


def _cell(row: dict[str, Any] | None) -> str:
    return "—" if row is None else f"{row['difference']:.0e}" if "difference" in row else "failed"


def _largest(done: dict[tuple[str, str], dict[str, Any]], kind: str) -> float:
    return max((row["difference"] for (_, one), row in done.items() if one == kind and row["passed"]), default=0.0)


if __name__ == "__main__":
    main()
