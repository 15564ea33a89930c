"""Packages that break every promise of a plugin: one sentence with package and version, no traceback, a clean stdout."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ARCHITECTURE = """
import sys, torch
from torch import nn
from cnnkit import Architecture, Family, Pretrained
class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.layer = nn.Linear(channels, classes)
    def forward(self, images):
        print("forward")
        return self.layer(images.mean((2, 3)))
def build(num_classes, in_channels, *, width: int = 4):
    print("build")
    return Net(num_classes, in_channels)
net = Architecture(build=build, summary="mine", image_size=32)
"""
AT_IMPORT = {
    "exit": "sys.exit(0)",
    "exit 1": "raise SystemExit",
    "error": "1 / 0",
    "base error": "raise BaseException('no')",
    "generator exit": "raise GeneratorExit",
    "deep": "def f(): f()\nf()",
    "memory": "raise MemoryError",
    "unprintable": "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
    "replaced stdout": "sys.stdout = None; 1 / 0",
}
FIELDS = {
    "number": "net = 3",
    "type": "net = Architecture",
    "no function": "net = Architecture(build=3, summary='', image_size=32)",
    "size 0": "net = Architecture(build=build, summary='', image_size=0)",
    "size text": "net = Architecture(build=build, summary='', image_size='32')",
    "size huge": "net = Architecture(build=build, summary='', image_size=10**9)",
    "summary": "net = Architecture(build=build, summary=None, image_size=32)",
    "cam layer": "net = Architecture(build=build, summary='', image_size=32, cam_layer=3)",
    "weights": "net = Architecture(build=build, summary='', image_size=32, pretrained='yes')",
    "means": "net = Architecture(build=build, summary='', image_size=32, pretrained=Pretrained(print, '', 32, (1, 2), (1, 1, 1)))",
    "family": "net = Family(members=3, get=3, summary='')",
}
BUILDS = {
    "exit": "def forward(self, images): sys.exit(0)",
    "error": "def forward(self, images): raise BaseException('no')",
    "map": "def forward(self, images): return images",
    "wrong classes": "def forward(self, images): return torch.zeros(len(images), 99, requires_grad=True)",
    "tuple": "def forward(self, images): return (self.layer(images.mean((2, 3))),)",
    "none": "def forward(self, images): return None",
    "integers": "def forward(self, images): return torch.zeros(len(images), 10, dtype=torch.int64)",
    "no gradient": "def forward(self, images): return torch.zeros(len(images), 10)",
    "no copy": "def __deepcopy__(self, memo): sys.exit(1)",
    "other logits in eval mode": "def forward(self, images): return self.layer(images.mean((2, 3))) if self.training else images",
}
SIGNATURES = {
    "a function in place of a module": "net = Architecture(build=lambda c, i: (lambda x: x), summary='', image_size=32)",
    "a tuple": "net = Architecture(build=lambda c, i: (c, i), summary='', image_size=32)",
    "too few parameters": "net = Architecture(build=lambda: None, summary='', image_size=32)",
    "exit in build": "net = Architecture(build=lambda c, i: sys.exit(0), summary='', image_size=32)",
    "unresolvable": "def build(c, i, *, w: 'Gone' = 4): ...\nnet = Architecture(build=build, summary='', image_size=32)",
    "no default": "def build(c, i, *, w: int): ...\nnet = Architecture(build=build, summary='', image_size=32)",
    "an object as default": "def build(c, i, *, w=object()): ...\nnet = Architecture(build=build, summary='', image_size=32)",
    "an unhashable type": "def build(c, i, *, w: [int] = 3): ...\nnet = Architecture(build=build, summary='', image_size=32)",
    "a builtin": "net = Architecture(build=type, summary='', image_size=32)",
}


@pytest.fixture
def refuses(cli: Callable[..., Any], image_folder: Callable[..., Path]) -> Callable[..., None]:
    """Return a function that checks that both `archs show` and a training refuse the architecture ``acme`` with package and version."""

    def check(*commands: str) -> None:
        data = image_folder(images=8)
        for command in commands:
            arguments = {"show": ["archs", "show", "acme"], "train": ["train", "--data", data, "--arch", "acme", "--epochs", "1"]}[command]
            done = cli(*arguments, "--json")
            assert (done.code, done.out) == (2, ""), done.err
            assert "Traceback" not in done.err
            assert "acme" in done.err
            assert command == "show" or "acme-nets 1.0" in done.err or "architecture 'acme'" in done.err
        assert cli("archs", "--json").json()["architectures"]

    return check


@pytest.mark.parametrize("code", AT_IMPORT.values(), ids=AT_IMPORT)
def test_an_import_that_fails(install_package: Callable[..., None], refuses: Callable[..., None], code: str) -> None:
    install_package("acme-nets", "acme", "acme_nets:net", ARCHITECTURE + code)
    refuses("show")


@pytest.mark.parametrize("code", (FIELDS | SIGNATURES).values(), ids=FIELDS | SIGNATURES)
def test_a_value_that_is_no_architecture(install_package: Callable[..., None], refuses: Callable[..., None], code: str) -> None:
    install_package("acme-nets", "acme", "acme_nets:net", f"{ARCHITECTURE}\n{code}")
    refuses("show")


@pytest.mark.parametrize("code", BUILDS.values(), ids=BUILDS)
def test_a_network_that_gives_no_logits(install_package: Callable[..., None], refuses: Callable[..., None], code: str) -> None:
    source = ARCHITECTURE.replace("    def forward", "    def _forward").replace("def build", f"    {code}\ndef build", 1)
    if "deepcopy" in code:
        source = source.replace("_forward", "forward")
    install_package("acme-nets", "acme", "acme_nets:net", source)
    refuses("train")


def test_prints_of_a_network_stay_off_stdout(
    install_package: Callable[..., None], cli: Callable[..., Any], image_folder: Callable[..., Path]
) -> None:
    install_package("acme-nets", "acme", "acme_nets:net", ARCHITECTURE)
    data = image_folder(images=8)
    for command in (("archs", "show", "acme"), ("train", "--data", data, "--arch", "acme", "--epochs", "1"), ("eval",), ("predict", data)):
        done = cli(*command, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)
        assert "forward" in done.err


TWICE = """
import torch
from torch import nn
from cnnkit import Architecture
class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        layer = nn.Linear(channels, channels)
        self.layers = nn.Sequential(layer, nn.ReLU(), layer)
        self.tied = nn.Linear(channels, channels)
        self.tied.weight = layer.weight
        self.register_buffer("row", torch.ones(1).expand(channels))
        self.register_buffer("view", self.row[:1])
        self.head = nn.Linear(channels, classes)
    def forward(self, images):
        return self.head(self.tied(self.layers(images.mean((2, 3)))) + self.row)
def build(num_classes, in_channels):
    return Net(num_classes, in_channels)
net = Architecture(build=build, summary="mine", image_size=32)
"""


@pytest.mark.parametrize("average", ["0", "0.9"])
def test_a_network_with_tensors_of_several_names(
    install_package: Callable[..., None], cli: Callable[..., Any], image_folder: Callable[..., Path], average: str
) -> None:
    install_package("acme-nets", "acme", "acme_nets:net", TWICE)
    data = image_folder(images=8)
    for command in (("train", "--data", data, "--arch", "acme", "--epochs", "1", "--ema", average), ("eval",), ("predict", data)):
        done = cli(*command, "--json")
        assert done.code == 0, done.err


def test_changed_code_of_the_same_version_is_refused(
    install_package: Callable[..., None], cli: Callable[..., Any], image_folder: Callable[..., Path], site: Path
) -> None:
    install_package("acme-nets", "acme", "acme_nets:net", TWICE)
    data = image_folder(images=8)
    assert cli("train", "--data", data, "--arch", "acme", "--epochs", "1").code == 0
    del sys.modules["acme_nets"]
    (site / "acme_nets.py").write_text(TWICE.replace("ReLU", "Sigmoid"))
    importlib.invalidate_caches()
    for command in (("eval",), ("predict", data), ("export", "--onnx"), ("explain", data)):
        done = cli(*command)
        assert done.code == 2, done.err
        assert "the network 'acme' computes other logits than after its training" in done.err
        assert "written with acme-nets 1.0; installed: acme-nets 1.0, so its code has changed under the same version" in done.err
    assert cli("info").code == 0
    assert cli("runs").code == 0


def test_an_error_in_the_middle_of_a_training_names_the_package(
    install_package: Callable[..., None], cli: Callable[..., Any], image_folder: Callable[..., Path]
) -> None:
    late = "        self.seen = getattr(self, 'seen', 0) + 1\n        if torch.is_grad_enabled() and self.seen > 2: sys.exit(0)\n"
    install_package("acme-nets", "acme", "acme_nets:net", ARCHITECTURE.replace('        print("forward")\n', late))
    done = cli("train", "--data", image_folder(images=8), "--arch", "acme", "--epochs", "5", "--lr", "0.01", "--batch-size", "8")
    assert done.code == 3
    assert "architecture 'acme' of acme-nets 1.0 failed: it ends the program (SystemExit: 0)" in done.err


MEMBERS = {
    "error": "lambda: 1 / 0",
    "exit": "lambda: sys.exit()",
    "endless": "lambda: iter(int, 1)",
    "numbers": "lambda: [1, 2]",
    "none": "lambda: None",
}


@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS)
def test_a_family_without_a_list_of_members(install_package: Callable[..., None], cli: Callable[..., Any], members: str) -> None:
    install_package(
        "acme-nets", "acme", "acme_nets:net", f"{ARCHITECTURE}\nnet = Family(members={members}, get=lambda name: 3, summary='')"
    )
    for name in ("acme/*", "acme/x"):
        done = cli("archs", *(["show"] if name.endswith("x") else []), name)
        assert (done.code, done.out) == (2, "")
        assert "'acme'" in done.err
        assert "acme-nets 1.0" in done.err


EXPORTERS = {
    "number": "out = 3",
    "exit in write": "out = Exporter('acme', '', lambda model, path: sys.exit(0), open_)",
    "no file": "out = Exporter('acme', '', lambda model, path: None, open_)",
    "error in open": "out = Exporter('acme', '', write, lambda path: 1 / 0)",
    "nothing opened": "out = Exporter('acme', '', write, lambda path: None)",
    "wrong classes": "out = Exporter('acme', '', write, lambda path: Opened((1, 2)))",
    "unknown kind of input": "out = Exporter('acme', '', write, open_, inputs=('pixels',))",
    "wrong shape": "out = Exporter('acme', '', write, lambda path: Opened(('a', 'b')))",
}
EXPORTER = """
import sys
from cnnkit.exporters.protocol import Exporter
class Opened:
    def __init__(self, classes): self.classes = classes
    def probabilities(self, images): print("predicting"); return [[0.5]]
def write(model, path): print("writing"); path.write_text("x")
def open_(path): return Opened(("ants", "bees", "wasps"))
"""


@pytest.mark.parametrize("code", EXPORTERS.values(), ids=EXPORTERS)
def test_an_exporter_that_gives_no_predictions(
    install_package: Callable[..., None], cli: Callable[..., Any], trained: Any, tmp_path: Path, code: str
) -> None:
    install_package("acme-out", "acme", "acme_out:out", EXPORTER + code, group="cnnkit.exporters")
    from cnnkit.api import export
    from cnnkit.errors import CnnkitError

    with pytest.raises(CnnkitError, match=r"acme-out 1\.0|the exported file names the classes"):
        export(trained.run, to="acme")
    (tmp_path / "model.acme").write_text("x")
    done = cli("predict", trained.data, "--model", tmp_path / "model.acme", "--json")
    assert (done.code, done.out) == (2, ""), done.err
    assert "acme-out 1.0" in done.err


def test_no_exporter_takes_the_model_files(install_package: Callable[..., None], cli: Callable[..., Any], trained: Any) -> None:
    install_package("acme-out", "safetensors", "acme_out:out", EXPORTER + "out = 1 / 0", group="cnnkit.exporters")
    assert cli("predict", trained.data, "--model", trained.run, "--json").code == 0
