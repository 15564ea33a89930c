"""Architectures with one fault each: the check names the fault, and no other command is disturbed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cnnkit.api.plugins import architecture_checks
from cnnkit.api.plugins.check import check_plugin
from cnnkit.api.plugins.plugin_report import CheckResult, PluginReport
from cnnkit.architecture import Option

# An architecture without a fault; each faulty one replaces one text by another.
SOUND = '''
import torch
from torch import nn
from torch.nn import functional as F
from cnnkit import Architecture

class Net(nn.Module):
    def __init__(self, num_classes, in_channels, width, extra):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        self.extra = extra

    def features(self, images):
        return self.norm(self.conv(images)).relu().mean((2, 3))

    def forward(self, images):
        features = F.dropout(self.features(images), 0.1, self.training)
        return self.head(features)

def build(num_classes, in_channels, *, width: int = 8, extra: bool = False):
    """Return a network with `width` filters; `extra` changes nothing."""
    return Net(num_classes, in_channels, width, extra)

net = Architecture(build=build, summary="a sound net", image_size=32)
'''


@dataclass(frozen=True)
class Fault:
    """A way to break `SOUND`: the `new` text in place of the `old` one, the failed check, and a part of the reason with its remedy."""

    old: str
    new: str
    check: str
    problem: str
    remedy: str = ""

    @property
    def source(self) -> str:
        assert self.old in SOUND
        return SOUND.replace(self.old, self.new)


IMPORT = "import torch\n"
LOGITS = "return self.head(features)"
AT_LOADING = {
    "raises-at-import": Fault(
        IMPORT, "raise ZeroDivisionError('at import')\n", "loads", "ZeroDivisionError: at import", "python -c 'import"
    ),
    "exits-at-import": Fault(IMPORT, "raise SystemExit(0)\n", "loads", r"it ends the program \(SystemExit: 0\)"),
    "kills-the-process": Fault(IMPORT, "import os; os._exit(7)\n", "loads", "ends the process while it is loaded with exit code 7"),
    "crashes": Fault(IMPORT, "import os; os.kill(os.getpid(), 11)\n", "loads", "ends the process while it is loaded by SIGSEGV"),
    "lacks-a-package": Fault(IMPORT, "import no_such_package\n", "loads", "No module named 'no_such_package'"),
    "no-python": Fault(IMPORT, "def broken(:\n", "loads", "SyntaxError"),
    "another-name": Fault("\nnet = Arch", "\nnett = Arch", "loads", "has no attribute 'net'", "must import and define net"),
    "no-architecture": Fault("\nnet = Architecture(", "\nnet = dict(", "loads", r"is a dict, not a cnnkit\.Architecture"),
    "summary-is-no-text": Fault('summary="a sound net"', "summary=7", "loads", "summary is 7; it must be text"),
    "option-without-default": Fault("width: int = 8,", "width: int,", "loads", "option 'width' of its build needs a default"),
    "prints-at-import": Fault(
        IMPORT, "import torch\nprint('loading nets')\n", "stdout", "writes 'loading nets' to stdout", "remove the print"
    ),
    "prints-in-forward": Fault(LOGITS, f"print('shape', tuple(features.shape)); {LOGITS}", "stdout", r"writes 'shape \(1, 8\)' to stdout"),
    "prints-below-python": Fault(
        "    return Net(", "    import os; os.write(1, b'C++')\n    return Net(", "stdout", r"writes 'C\+\+' to stdout"
    ),
}
IN_CONTRACT = {
    "two-line-summary": Fault('"a sound net"', '"a sound\\nnet"', "summary", "has a summary of 2 lines", "write one line"),
    "unnamed-option": Fault("; `extra` changes nothing", "", "docstring", "does not name 'extra'", "what each option means"),
    "wrong-default": Fault("extra: bool = False", "extra: bool = 2", "options", "has type bool, which cannot hold its default 2"),
    "build-raises": Fault("    return Net(", "    1 / 0\n    return Net(", "build", "ZeroDivisionError"),
    "build-returns-a-list": Fault("return Net(num_classes, in_channels, width, extra)", "return []", "build", "its build returns a list"),
    "wrong-shape": Fault(LOGITS, f"{LOGITS}[:, :-1]", "logits", r"returns shape \(3, 1\) .*expected logits \(3, 2\)"),
    "two-outputs": Fault(LOGITS, f"{LOGITS}, features", "logits", "returns a tuple .*expected one tensor of logits"),
    "wrong-type": Fault(LOGITS, f"{LOGITS}.double()", "logits", "returns logits of type float64 .*expected float32", r"without \.double"),
    "not-finite": Fault(LOGITS, f"{LOGITS} / 0", "logits", "returns logits that are not finite"),
    "gray-only": Fault("nn.Conv2d(in_channels,", "nn.Conv2d(1,", "logits", "RuntimeError: .*with 10 classes, 3 channels and 48 px"),
    "one-size": Fault(
        "return self.norm(self.conv(images)).relu().mean((2, 3))",
        "maps = self.conv(images); assert maps.shape[-1] == 24; return self.norm(maps).relu().mean((2, 3))",
        "image size",
        "AssertionError.* 32 px",
        "AdaptiveAvgPool2d.*image_size: int = 0",
    ),
    "unused-weights": Fault(
        "self.extra = extra", "self.spare = nn.Linear(2, 2); self.extra = extra", "gradients", "'spare.weight' takes no part"
    ),
    "no-gradients": Fault(LOGITS, f"{LOGITS}.detach()", "gradients", "has no gradients", r"remove \.detach\(\)"),
    "drops-in-eval": Fault("self.training)", "True)", "eval mode", "gives other logits for the same images", "is dropout switched off"),
    "mixes-images": Fault(LOGITS, f"features = features - 0.5 * features.mean(0); {LOGITS}", "batch of one", "change each other's logits"),
    "squeezes": Fault(LOGITS, f"{LOGITS}.squeeze()", "batch of one", r"returns shape \(2,\) for a batch of one image", r"flatten\(1\)"),
    "views": Fault(
        "return self.norm(self.conv(images)).relu().mean((2, 3))",
        "maps = self.norm(self.conv(images)).relu(); return maps.view(len(maps), -1).view(len(maps), maps.shape[1], -1).mean(2)",
        "channels_last",
        "view size is not compatible",
        "use flatten or reshape, never view",
    ),
    "cam-layer": Fault(
        "image_size=32", "image_size=32, cam_layer='convs'", "cam_layer", "'convs', which is not a module .*did you mean 'conv'"
    ),
    "own-randomness": Fault(
        "self.extra = extra",
        "import numpy; self.extra = extra; self.head.bias.data += torch.tensor(numpy.random.default_rng().normal(), dtype=torch.float32)",
        "seed",
        "built twice under torch.manual_seed",
        "torch's global generator alone",
    ),
    "outside-the-state": Fault(
        "        features = F.dropout",
        "        self.seen = getattr(self, 'seen', 0) + self.training\n        features = self.seen + F.dropout",
        "state dict",
        "gives other logits after its state dict was saved and loaded",
        "parameters and buffers",
    ),
}
IN_USE = {
    "learns-backwards": Fault(
        LOGITS, "logits = self.head(self.features(images)); return 2 * logits.detach() - logits", "training", "do not lower the loss"
    ),
    "broken-option": Fault(
        LOGITS,
        f"self.gain = getattr(self, 'gain', torch.rand(()) if self.extra else 1.0); {LOGITS} * self.gain",
        "saved options",
        "computes other logits than after its training",
        "with other options too",
    ),
    "not-exportable": Fault(
        LOGITS,
        "features = features * 2 if float(features.detach().sum()) > 0.3 else features; return self.head(features)",
        "ONNX export",
        "Could not guard on data-dependent expression",
        "avoid Python's if and for on values of tensors",
    ),
}
FAULTS = AT_LOADING | IN_CONTRACT | IN_USE


@pytest.fixture
def install_fault(install_package: Callable[..., None]) -> Callable[[str], None]:
    """Return a function that installs the package of a fault by its name."""

    def install(name: str) -> None:
        source = FAULTS[name].source.replace("image_size=32", "image_size=48")
        install_package(f"acme-{name}", name, f"acme_{name.replace('-', '_')}:net", source)

    return install


def failure(report: PluginReport, check: str) -> CheckResult:
    """Return the row of `check`, which must be the first failed one."""
    first = next(result for result in report.results if result.ok is False)
    assert first.check == check, first
    return first


def check_fault(report: PluginReport, fault: Fault) -> None:
    row = failure(report, fault.check)
    assert re.search(fault.problem, row.problem), row.problem
    assert re.search(fault.remedy, row.remedy), row.remedy


@pytest.fixture
def contract_alone(loaded_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the training and what follows it."""
    monkeypatch.setattr(architecture_checks, "check_real_path", lambda *_: None)


@pytest.mark.parametrize("name", IN_CONTRACT)
def test_a_fault_of_the_network_is_named(install_fault: Callable[[str], None], contract_alone: None, name: str) -> None:
    install_fault(name)
    check_fault(check_plugin(name), FAULTS[name])


def test_a_sound_network_passes_the_contract(install_package: Callable[..., None], contract_alone: None) -> None:
    install_package("acme", "sound", "acme:net", SOUND)
    report = check_plugin("sound")
    assert (report.failed, report.package, report.version) == ([], "acme", "1.0")
    assert {"docstring", "image size", "batch of one", "state dict"} < {result.check for result in report.results if result.ok}


def test_checks_that_need_a_failed_one_are_not_made(install_fault: Callable[[str], None], contract_alone: None) -> None:
    install_fault("not-finite")
    report = check_plugin("not-finite")
    assert report.failed == ["logits"]
    rows = {result.check: result for result in report.results}
    assert (rows["gradients"].ok, rows["gradients"].problem) == (None, "not made, as it needs 'logits'")
    assert rows["seed"].ok


@pytest.mark.slow  # loads torch in another process
@pytest.mark.parametrize("name", AT_LOADING)
def test_a_fault_at_loading_is_named(install_fault: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(architecture_checks, "check_real_path", lambda *_: None)
    install_fault(name)
    check_fault(check_plugin(name), FAULTS[name])


@pytest.mark.slow  # trains and exports
@pytest.mark.parametrize("name", IN_USE)
def test_a_fault_in_use_is_named(install_fault: Callable[[str], None], name: str) -> None:
    install_fault(name)
    check_fault(check_plugin(name), FAULTS[name])


@pytest.mark.slow  # trains and exports
def test_a_sound_network_passes_every_check(install_package: Callable[..., None]) -> None:
    install_package("acme", "sound", "acme:net", SOUND)
    report = check_plugin("sound")
    assert [result for result in report.results if not result.ok] == []
    notes = {result.check: result.note for result in report.results}
    assert re.fullmatch(r"loss \d\.\d+ to \d\.\d+ in 3 steps at learning rate 0\.001", notes["training"])
    assert notes["saved options"] == "width=4, extra=True"
    assert notes["ONNX export"].startswith("36 images, largest difference of a probability")


@pytest.mark.slow  # loads torch in another process, and trains
def test_faults_disturb_no_other_command(install_fault: Callable[[str], None], cli: Callable[..., Any]) -> None:
    for name in FAULTS:
        install_fault(name)
    states = {row["name"]: row for row in cli("plugins", "list", "--group", "architectures", "--json").json()["plugins"]}
    broken = {name for name, row in states.items() if row["state"] == "does not load"}
    assert broken == {name for name, fault in AT_LOADING.items() if fault.check == "loads"}
    assert states["crashes"]["why"] == (
        "architecture 'crashes' of acme-crashes 1.0 ends the process while it is loaded by SIGSEGV; reinstall or uninstall acme-crashes"
    )
    assert states["custom-cnn"]["state"] == "loads"
    assert {row["name"] for row in cli("archs", "--json").json()["architectures"]} > {"custom-cnn", *FAULTS}
    done = cli("train", "--data", "digits", "--arch", "custom-cnn", "--set", "width=4", "--epochs", "1", "--json")
    assert done.code == 0


@pytest.mark.parametrize(
    ("option", "values"),
    [
        (Option("width", int, 8), [4, 7, 9, 16]),
        (Option("depth", int, 1, low=1, high=2, limits="from 1 to 2"), [2, 2]),
        (Option("rate", float, 0.0, low=0.0, high=0.9, limits="from 0 to 0.9"), [0.5, 0.45]),
        (Option("norm", str, "batch", ("batch", "none"), limits="one of batch, none"), ["none"]),
        (Option("gated", bool, default=False), [True]),
        (Option("name", str, "x"), []),
    ],
)
def test_other_values_of_an_option_are_allowed_ones(option: Option, values: list[object]) -> None:
    found = [*architecture_checks.other_values(option)]
    assert found == values
    assert all(option.allows(value) for value in found)
