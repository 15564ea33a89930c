from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest
import torch
from torch import nn

from cnnkit.config.settings import OptimConfig, StopConfig
from cnnkit.engine.fit import Checkpoint, EpochResult, TrainingState, fit, initial_state
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.state import FILE_NAME, PREVIOUS_NAME, load_state, save_state
from cnnkit.errors import ModelFileError

PLAIN = Runtime(torch.device("cpu"))


def network(seed: int, width: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(width * 64, 4)
    )


def begin(config: OptimConfig, seed: int = 0, width: int = 8) -> tuple[nn.Module, TrainingState]:
    model = network(seed, width)
    return model, initial_state(model, config, StopConfig(patience=3))


def comparable(result: EpochResult) -> dict[str, object]:
    return {name: value for name, value in vars(result).items() if name not in {"seconds", "images_per_second"}}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize(("layer_decay", "ema"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.9)])
@pytest.mark.parametrize("runtime", [PLAIN, Runtime(torch.device("cpu"), replicas=2)], ids=["plain", "replicas"])
def test_two_epochs_and_two_resumed_ones_equal_four_bit_by_bit(
    fixed, tmp_path: Path, optimizer: str, layer_decay: float, ema: float, runtime: Runtime
) -> None:
    head = frozenset({"5.weight", "5.bias"})
    settings: dict[str, Any] = {"optimizer": optimizer, "layer_decay": layer_decay, "ema": ema}
    config = OptimConfig(epochs=4, lr=0.01, warmup_epochs=1, freeze_epochs=1, accumulate=2, **settings)

    def run(model: nn.Module, state: TrainingState) -> list[EpochResult]:
        loop = fit(model, fixed, fixed, config, runtime, state, num_classes=4, seed=5, head=head)
        results: list[EpochResult] = []
        for result in loop:
            results.append(result)
            save_state(tmp_path / f"epoch-{result.epoch}", model, state)
        return results

    straight = begin(config)
    whole = run(*straight)
    torch.rand(7)  # another program part draws random numbers
    resumed = begin(config, seed=99)
    load_state(tmp_path / "epoch-2", *resumed)
    assert (resumed[1].epoch, resumed[1].step) == (2, 4)
    rest = run(*resumed)
    assert [comparable(result) for result in rest] == [comparable(result) for result in whole[2:]]
    pairs = [(straight[0], resumed[0]), (straight[1].network_to_keep(straight[0]), resumed[1].network_to_keep(resumed[0]))]
    for one, other in pairs:
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert (straight[1].average is not None) is bool(ema)
    assert resumed[1].stopping == straight[1].stopping


@pytest.mark.parametrize("stop_after", [1, 2, 5], ids=lambda step: f"step-{step}")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("runtime", [PLAIN, Runtime(torch.device("cpu"), replicas=2)], ids=["plain", "replicas"])
def test_a_resume_inside_an_epoch_ends_bit_by_bit_as_without_a_stop(
    fixed, tmp_path: Path, stop_after: int, accumulate: int, runtime: Runtime
) -> None:
    batches = fixed.batched(*[4] * 3, 3, 1)
    config = OptimConfig(epochs=3, lr=0.01, warmup_epochs=1, accumulate=accumulate, ema=0.9)

    def run(model: nn.Module, state: TrainingState, checkpoint: Checkpoint | None = None) -> list[EpochResult]:
        return list(fit(model, batches, fixed, config, runtime, state, num_classes=4, seed=5, checkpoint=checkpoint))

    straight = begin(config)
    whole = run(*straight)
    broken = begin(config)

    def save() -> None:
        save_state(tmp_path, *broken)
        if broken[1].step >= stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(*broken, Checkpoint(save, 0.0))
    torch.rand(7)  # another program part draws random numbers
    resumed = begin(config, seed=99)
    load_state(tmp_path, *resumed)
    state = resumed[1]
    assert state.step == broken[1].step
    assert state.part is not None
    assert state.ended == state.epoch - 1
    assert state.position == f"in epoch {state.epoch}, after step {state.step}"
    rest = run(*resumed)
    assert [comparable(result) for result in rest] == [comparable(result) for result in whole[-len(rest) :]]
    for one, other in zip(straight[0].state_dict().values(), resumed[0].state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_resume_keeps_the_scale_of_fp16(fixed, tmp_path: Path) -> None:
    runtime, config = Runtime(torch.device("cpu"), "fp16"), OptimConfig(epochs=3, lr=0.01)
    scaler = {"scale": 4.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 3, "_growth_tracker": 0}

    def run(model: nn.Module, state: TrainingState) -> list[float]:
        scales: list[float] = []
        for result in fit(model, fixed, fixed, config, runtime, state, num_classes=4):
            save_state(tmp_path / f"epoch-{result.epoch}", model, state)
            scales.append(state.scaler["scale"])
        return scales

    straight, resumed = begin(config), begin(config, seed=9)
    straight[1].scaler = scaler
    assert run(*straight) == [8.0, 16.0, 64.0]  # it doubles after every third of four steps an epoch
    load_state(tmp_path / "epoch-1", *resumed)
    assert resumed[1].scaler == scaler | {"scale": 8.0, "_growth_tracker": 1}
    assert run(*resumed) == [16.0, 64.0]
    for one, other in zip(straight[0].state_dict().values(), resumed[0].state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_other_precisions_have_no_scale(fixed, tmp_path: Path) -> None:
    model, state = begin(OptimConfig(epochs=1))
    list(fit(model, fixed, fixed, OptimConfig(epochs=1), PLAIN, state, num_classes=4))
    save_state(tmp_path, model, state)
    assert torch.load(tmp_path / FILE_NAME, weights_only=True)["scaler"] == state.scaler == {}


def test_a_resume_restores_the_patience(fixed, tmp_path: Path) -> None:
    config = OptimConfig(epochs=9)
    model, state = begin(config)
    state.stopping.update(1, 0.5)
    state.stopping.update(2, 0.7)
    state.epoch = 2
    save_state(tmp_path, model, state)
    other, resumed = begin(config)
    load_state(tmp_path, other, resumed)
    assert (resumed.stopping.best_epoch, resumed.stopping.best_value, resumed.stopping.waited) == (1, 0.5, 1)
    assert resumed.stopping.patience == 3


def test_a_state_without_the_wanted_average_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, *begin(OptimConfig()))
    with pytest.raises(ModelFileError, match=r"state\.pt: does not fit this run, so the run cannot be resumed; .* \(.*state_dict"):
        load_state(tmp_path, *begin(OptimConfig(ema=0.9)))


def test_saving_makes_the_folder_and_keeps_the_state_before(tmp_path: Path) -> None:
    model, state = begin(OptimConfig())
    for epoch, names in ((1, [FILE_NAME]), (2, [PREVIOUS_NAME, FILE_NAME]), (3, [PREVIOUS_NAME, FILE_NAME])):
        state.epoch = epoch
        save_state(tmp_path / "last", model, state)
        assert sorted(path.name for path in (tmp_path / "last").iterdir()) == names
    assert torch.load(tmp_path / "last" / PREVIOUS_NAME, weights_only=True)["epoch"] == 2


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_the_state_before_replaces_a_damaged_one_and_is_named(tmp_path: Path, damage: str) -> None:
    model, state = begin(OptimConfig())
    for state.epoch in (1, 2):
        save_state(tmp_path, model, state)
    newest = tmp_path / FILE_NAME
    newest.unlink() if damage == "missing" else newest.write_bytes(newest.read_bytes()[:-9])
    other, resumed = begin(OptimConfig(), seed=9)
    note = load_state(tmp_path, other, resumed)
    assert resumed.epoch == 1
    assert note == f"state.pt is damaged or missing, so the training continues after epoch 1, the state in {tmp_path / PREVIOUS_NAME}"
    save_state(tmp_path, other, resumed)
    assert load_state(tmp_path, *begin(OptimConfig())) == ""


def test_a_state_holds_the_result_of_its_epoch(fixed, tmp_path: Path) -> None:
    config = OptimConfig(epochs=1)
    model, state = begin(config)
    (result,) = fit(model, fixed, fixed, config, PLAIN, state, num_classes=4)
    save_state(tmp_path, model, state)
    resumed = begin(config)
    load_state(tmp_path, *resumed)
    assert resumed[1].result == result


def test_a_failure_while_saving_keeps_the_older_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, state = begin(OptimConfig())
    save_state(tmp_path, model, state)
    before = (tmp_path / FILE_NAME).read_bytes()

    def half(_: object, file: IO[bytes]) -> None:
        file.write(b"half")
        try:
            raise OSError(28, "No space left on device")  # noqa: TRY301 (as torch does)
        except OSError:
            raise RuntimeError("unexpected pos 4 vs 0")  # noqa: B904

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path, model, state)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_missing_state_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    reason = r"state\.pt: no such file, .*: it stopped before its first epoch ended; start it again with cnnkit train$"
    with pytest.raises(ModelFileError, match=reason):
        load_state(tmp_path / "last", *begin(OptimConfig()))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_tensors_of_several_names_are_restored(tmp_path: Path, ema: float) -> None:
    def begin_shared(seed: int) -> tuple[nn.Module, TrainingState]:
        torch.manual_seed(seed)
        layer = nn.Linear(4, 4)
        model = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 4))
        model.get_submodule("3").weight = layer.weight
        return model, initial_state(model, OptimConfig(ema=ema), StopConfig())

    model, state = begin_shared(0)
    save_state(tmp_path, model, state)
    other, resumed = begin_shared(1)
    load_state(tmp_path, other, resumed)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())
    kept = resumed.network_to_keep(other)
    assert kept.get_parameter("0.weight") is kept.get_parameter("3.weight")


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_damaged_state_is_an_error_with_a_next_step(tmp_path: Path, share: float) -> None:
    model, state = begin(OptimConfig())
    save_state(tmp_path, model, state)
    data = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelFileError, match=r"state\.pt: damaged, so the run cannot be resumed; start it again with cnnkit train$"):
        load_state(tmp_path, model, state)


@pytest.mark.parametrize("data", [b"abc", b"PK", b"\x80\x02.", b"cos\nsystem\n(S'exit'\ntR."])
def test_a_state_of_other_bytes_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged"):
        load_state(tmp_path, *begin(OptimConfig()))


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, *begin(OptimConfig()))
    with pytest.raises(ModelFileError, match=r"state\.pt: does not fit this run, so the run cannot be resumed; .* \(.*size mismatch"):
        load_state(tmp_path, *begin(OptimConfig(), width=4))


@pytest.mark.parametrize("content", [{}, {"model": {}}, 7, None])
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / FILE_NAME)
    with pytest.raises(ModelFileError, match="does not fit this run"):
        load_state(tmp_path, *begin(OptimConfig()))
