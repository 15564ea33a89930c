from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnkit.engine.fit import EpochResult
from cnnkit.errors import MissingExtraError, PluginError
from cnnkit.registry import Entry
from cnnkit.trackers import following
from cnnkit.trackers.following import Followers
from cnnkit.trackers.protocol import epoch_metrics, settings

EPOCH = EpochResult(3, 30, 1e-3, 0.5, 0.8, 0.6, 0.75, 0.7, 2.0, 500.0, is_best=True)


class Recorder:
    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails

    def _take(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] == self.fails:
            raise OSError("disk full")

    def start(self, facts, folder, epoch):
        self._take("start", facts, folder, epoch)

    def epoch(self, result):
        self._take("epoch", result)

    def end(self, status):
        self._take("end", status)


def followers_of(**trackers: Recorder) -> Followers:
    entries = {name: Entry("cnnkit.trackers", name, f"{name}:Tracker", f"cnnkit-{name}", "0.3") for name in trackers}
    return Followers({name: (tracker, entries[name]) for name, tracker in trackers.items()})


def follow(followers: Followers) -> None:
    followers.start({"config": {}}, Path("run"), 2)
    followers.epoch(EPOCH)
    before = len(followers.notes)
    assert followers.end("finished") == (len(followers.notes) > before)


def test_every_tracker_gets_all_calls():
    one, other = Recorder(), Recorder()
    followers = followers_of(one=one, other=other)
    follow(followers)
    assert one.calls == other.calls == [("start", {"config": {}}, Path("run"), 2), ("epoch", EPOCH), ("end", "finished")]
    assert followers.notes == []


@pytest.mark.parametrize(("fails", "when", "calls"), [("start", "at the start", 1), ("epoch", "in epoch 3", 2), ("end", "at the end", 3)])
def test_a_tracker_that_fails_is_switched_off_with_a_note_and_others_continue(fails, when, calls):
    bad, good = Recorder(fails), Recorder()
    followers = followers_of(bad=bad, good=good)
    follow(followers)
    assert len(bad.calls) == calls
    assert len(good.calls) == 3
    assert followers.notes == [
        f"--log bad was switched off: tracker 'bad' of cnnkit-bad 0.3 failed {when}: OSError: disk full; the training goes on"
    ]


def test_ctrl_c_is_not_a_failure_of_a_tracker():
    class Stopped(Recorder):
        def epoch(self, result):
            raise KeyboardInterrupt(result.epoch)

    with pytest.raises(KeyboardInterrupt):
        follow(followers_of(x=Stopped()))


def test_the_error_for_an_unknown_name_lists_the_trackers():
    with pytest.raises(PluginError, match=r"no tracker named 'tensorbord' is installed.*Known: .*"):
        Followers.named(("tensorbord",))


def made_by(monkeypatch, make):
    monkeypatch.setattr(following, "load", lambda group, name: (make, Entry(group, name, "strange:Tracker", "cnnkit-strange", "0.3")))


def test_a_name_given_twice_is_one_tracker(monkeypatch):
    made: list[Recorder] = []

    def make():
        made.append(Recorder())
        return made[-1]

    made_by(monkeypatch, make)
    follow(Followers.named(("x", "x")))
    assert [len(each.calls) for each in made] == [3]


def test_the_error_for_a_third_party_tracker_names_its_package(monkeypatch):
    def broken():
        raise RuntimeError("no server")

    made_by(monkeypatch, broken)
    with pytest.raises(PluginError, match=r"tracker 'x' of cnnkit-strange 0.3 does not start: RuntimeError: no server; leave out --log x$"):
        Followers.named(("x",))
    made_by(monkeypatch, lambda: SimpleNamespace(start=print))
    with pytest.raises(
        PluginError, match=r"--log x: strange:Tracker of cnnkit-strange 0.3 is not a tracker: it lacks epoch, end; leave out --log x$"
    ):
        Followers.named(("x",))


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")])
def test_the_error_for_a_missing_package_names_the_install_command(name, module, monkeypatch):
    from cnnkit.trackers.mlflow import MlflowTracker
    from cnnkit.trackers.tensorboard import TensorBoardTracker
    from cnnkit.trackers.wandb import WandbTracker

    parent, _, child = module.rpartition(".")
    if parent:
        monkeypatch.delattr(import_module(parent), child, raising=False)  # an earlier import has set it
    monkeypatch.setitem(sys.modules, module, None)
    made_by(monkeypatch, {"tensorboard": TensorBoardTracker, "mlflow": MlflowTracker, "wandb": WandbTracker}[name])
    with pytest.raises(MissingExtraError, match=rf"--log {name} needs the package {name}; type: pip install 'cnnkit\[{name}\]'"):
        Followers.named((name,))


def test_metrics_and_settings_have_names():
    assert epoch_metrics(EPOCH)["loss/train"] == 0.5
    assert epoch_metrics(EPOCH)["learning_rate"] == 1e-3
    assert epoch_metrics(replace(EPOCH, val_loss=None, val_accuracy=None, val_macro_f1=None)).keys() == {
        "loss/train", "accuracy/train", "learning_rate", "images_per_second",
    }  # fmt: skip
    facts = {"config": {"recipe": "fast", "optim": {"lr": 0.1, "ema": True}, "data": {"split": [0.8, 0.2], "split_file": None}}}
    assert settings(facts) == {"recipe": "fast", "optim.lr": 0.1, "optim.ema": True, "data.split": "[0.8, 0.2]"}
