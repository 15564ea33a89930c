from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cnnkit.config import settings as module
from cnnkit.config.parsing import flag
from cnnkit.config.recipe import recipe_names, resolve, to_toml, with_tier
from cnnkit.config.settings import SECTIONS, DataConfig, OptimConfig, OptimSettings, TrainConfig, by_section, validated
from cnnkit.data.augment.augment import resolve_augmentation
from cnnkit.errors import ConfigError

RECIPES = Path(module.__file__).parent / "recipes"
SETTINGS = [(section, field) for section, kind in SECTIONS.items() for field in kind.model_fields]


def settle(**flags: Any) -> TrainConfig:
    return resolve(by_section(flags))


def write(text: str, name: str = "my.toml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


# --- error messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"lr": 0}, "`--lr` (=0) must be a number above 0, such as 2e-3, or auto"),
        ({"lr": "fast"}, "`--lr` (=fast) must be a number above 0, such as 2e-3, or auto"),
        ({"lr": float("inf")}, "`--lr` (=inf) must be a number above 0, such as 2e-3, or auto"),
        ({"lr": float("nan")}, "`--lr` (=nan) must be a number above 0, such as 2e-3, or auto"),
        ({"weight_decay": float("inf")}, "`--weight-decay` (=inf) must be a finite number"),
        ({"weight_decay": "much"}, "`--weight-decay` (=much) must be a valid number, unable to parse string as a number"),
        ({"epochs": 0}, "`--epochs` (=0) must be greater than or equal to 1"),
        ({"epochs": 2.5}, "`--epochs` (=2.5) must be a valid integer, got a number with a fractional part"),
        ({"batch_size": -1}, "`--batch-size` (=-1) must be a whole number, at least 1, or auto"),
        ({"batch_size": 2.5}, "`--batch-size` (=2.5) must be a whole number, at least 1, or auto"),
        (
            {"batch_size": "auto", "deterministic": True},
            "`--batch-size` (=auto) depends on how busy the machine is; with --deterministic give a number, such as 128",
        ),
        ({"label_smoothing": 1}, "`--label-smoothing` (=1) must be less than 1"),
        ({"image_size": 4}, "`--image-size` (=4) must be greater than or equal to 8"),
        ({"channels": 2}, "`--channels` (=2) must be 1 or 3"),
        ({"optimizer": 5}, "`--optimizer` (=5) must be a valid string"),
        ({"augment": "heavy"}, "`--augment` (=heavy) must be 'none', 'light', 'default' or 'strong'"),
        ({"data": 5}, "`--data` (=5) must be a valid string"),
        ({"monitor": "accuracy"}, "`--monitor` (=accuracy) must be 'val_loss', 'val_accuracy' or 'val_macro_f1'"),
        ({"seed": -1}, "`--seed` (=-1) must be greater than or equal to 0"),
        ({"rotate": 181}, "`--rotate` (=181) must be less than or equal to 180"),
        ({"zoom": "1.2,0.8"}, "`--zoom` (=1.2,0.8) must be LO,HI with 0 < LO <= HI, such as 0.9,1.1"),
        ({"zoom": "0,1"}, "`--zoom` (=0,1) must be LO,HI with 0 < LO <= HI, such as 0.9,1.1"),
        ({"zoom": "big"}, "`--zoom` (=big) must be numbers separated by ','"),
        ({"freeze_epochs": 2}, "`--freeze-epochs` (=2) needs weights worth keeping: give --weights, or leave it out"),
        ({"freeze_norm": True}, "`--freeze-norm` needs weights with statistics worth keeping: give --weights, or --no-freeze-norm"),
        ({"freeze_epochs": 9, "epochs": 3, "weights": "pretrained"}, "`--freeze-epochs` (=9) must not exceed --epochs (=3)"),
    ],
)
def test_the_error_for_a_wrong_value_names_the_allowed_values(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settle(**flags)
    assert str(caught.value) == message


@pytest.mark.parametrize("split", ["0.7/0.2/0.2", "0.5/0.2", "1", "1/0", "0/1", "0.6/0.2/0.1/0.1", "1.2/-0.2", "0.9/0.2/-0.1"])
def test_shares_that_do_not_add_up_are_refused(split: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settle(split=split)
    shown = "/".join(f"{float(part):g}" for part in split.split("/"))
    assert str(caught.value) == f"`--split` (={shown}) must be two or three shares that sum to 1, such as 0.7/0.15/0.15 or 0.8/0.2"


@pytest.mark.parametrize("split", ["a/b", "0.7,0.3", ""])
def test_shares_that_are_not_numbers_are_refused(split: str) -> None:
    with pytest.raises(ConfigError, match=r"`--split` .* must be numbers separated by '/'"):
        settle(split=split)


@pytest.mark.parametrize(
    ("split", "shares"),
    [("0.8/0.2", (0.8, 0.2)), ("0.7/0.15/0.15", (0.7, 0.15, 0.15)), ("0.1/0.2/0.7", (0.1, 0.2, 0.7)), ("0.5/0.5/0", (0.5, 0.5, 0.0))],
)
def test_two_or_three_shares_are_read(split: str, shares: tuple[float, ...]) -> None:
    assert settle(split=split).data.split == shares


def test_several_problems_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        settle(lr=0, epochs=0)
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == ["`--epochs`", "`--lr`"]


def test_the_error_for_an_unknown_setting_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="'epoch' is not a setting of a training; did you mean 'epochs'"):
        by_section({"epoch": 3})


def test_the_error_for_an_unknown_recipe_names_the_closest() -> None:
    with pytest.raises(
        ConfigError, match=r"--recipe finetun: no such recipe; did you mean 'finetune'\? Known: case-study, default, fast, finetune$"
    ):
        resolve({}, recipe="finetun")
    with pytest.raises(ConfigError, match="--recipe 5: no such recipe"):
        resolve({}, file=write("recipe = 5"))


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_error_for_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config gone\.toml: cannot be read: No such file or directory"):
        resolve({}, file=Path("gone.toml"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        resolve({}, file=tmp_path)


@pytest.mark.parametrize("text", ["lr: 0.1", "[optim\nlr=1", "epochs = "])
def test_the_error_for_a_file_that_is_not_toml_names_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--config my\.toml: not a TOML file: .*; for an example, type: cnnkit train --print-config$"):
        resolve({}, file=write(text))


def test_the_error_for_a_file_that_is_not_text_names_it() -> None:
    Path("my.toml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match=r"--config my\.toml: not a TOML file"):
        resolve({}, file=Path("my.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[optin]\nlr = 1",
            r"--config my\.toml: \[optin\] is not a section of a configuration; did you mean 'optim'\? Known: data, model, optim",
        ),
        ("epochs = 3", r"--config my\.toml: \[epochs\] is not a section of a configuration. Known"),
        ("model = 'resnet'", r"--config my\.toml: \[model\] is not a section of a configuration"),
        ("[optim]\nepoch = 3", "optim.epoch: there is no such setting; did you mean 'epochs'"),
        ("[data]\nsplit = ['a', 'b']", "`--split` .=a. must be a valid number"),
    ],
)
def test_the_error_for_wrong_content_names_it(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve({}, file=write(text))


def test_later_layers_win_setting_by_setting() -> None:
    """The order is default, recipe, file, flags."""
    default, recipe = OptimConfig(), resolve({}, recipe="case-study").optim
    assert (recipe.batch_size, recipe.lr) == (64, 1e-3)
    assert (recipe.batch_size, recipe.lr) != (default.batch_size, default.lr)
    file = write("[optim]\nbatch_size = 7\nepochs = 9\n[stop]\npatience = 2")
    config = resolve({"optim": {"epochs": 11}}, recipe="case-study", file=file)
    assert (config.optim.lr, config.optim.batch_size, config.optim.epochs) == (1e-3, 7, 11)
    assert (config.stop.patience, config.recipe) == (2, "case-study")
    assert config.optim.clip_grad == default.clip_grad


def test_the_given_recipe_wins_over_the_recipe_of_a_file() -> None:
    file = write("recipe = 'case-study'")
    assert resolve({}, file=file).recipe == "case-study"
    assert resolve({}, file=file).optim.optimizer == "adam"
    assert resolve({}, recipe="default", file=file).recipe == "default"
    assert resolve({}, recipe="default", file=file).optim == OptimSettings()


def test_weights_choose_the_recipe_finetune_unless_one_is_named() -> None:
    assert settle().recipe == "default"
    assert settle(weights="none").recipe == "default"
    assert settle(weights="pretrained").recipe == "finetune"
    assert settle(weights="pretrained").optim.freeze_norm
    assert resolve({}, file=write("[model]\nweights = 'best.safetensors'")).recipe == "finetune"
    assert resolve({"model": {"weights": "none"}}, file=write("[model]\nweights = 'best.safetensors'")).recipe == "default"
    assert resolve({"model": {"weights": "pretrained"}}, recipe="default").recipe == "default"
    assert resolve({"model": {"weights": "pretrained"}}, file=write("recipe = 'case-study'")).recipe == "case-study"


EVERYTHING = {
    "data": "images", "download": True, "split": "0.8/0.2", "split_file": "s.csv", "group_by": "patient",
    "classes": "a, b", "min_images": 3, "exclude": "*_mask.png, *.gif",
    "balance": "sampler", "cache": "ram", "workers": 3, "on_bad": "fail",
    "arch": "timm/resnet18", "set": ("width=8", "dropout=0.5"),
    "weights": "pretrained", "image_size": 48, "channels": 1, "resize_mode": "pad", "draft": False,
    "budget": "2m", "batch_size": 9, "lr": 0.125, "optimizer": "sgd", "loss": "focal:gamma=1", "weight_decay": 0.01,
    "schedule": "linear", "warmup_epochs": 0.5,
    "label_smoothing": 0.2, "start_size": 24, "freeze_epochs": 1, "freeze_norm": True, "layer_decay": 0.9, "ema": 0.99, "precision": "fp32",
    "compile": True, "accumulate": 2, "clip_grad": 1.5,
    "augment": "strong", "rotate": 3, "flip": "hv", "zoom": "0.5,1.5", "shift": 0.25,
    "color": 0.5, "erase": 0.5, "randaugment": "2,9", "mixup": 0.2, "cutmix": 1.0, "augment_with": ("blur:sigma=2",),
    "patience": 3, "min_delta": 0.001, "monitor": "val_accuracy", "out": "here", "seed": 42, "deterministic": True, "device": "cpu",
    "log": "tensorboard,mlflow", "save_every": "30s",
}  # fmt: skip


def test_every_setting_can_be_set() -> None:
    config = settle(**EVERYTHING)
    assert set(EVERYTHING) | {"epochs"} == {field for _, field in SETTINGS}  # a budget replaces epochs
    assert all(
        getattr(getattr(config, section), field) != kind.model_fields[field].default
        for section, kind in SECTIONS.items()
        for field in kind.model_fields
        if field != "epochs"
    )
    assert (config.data.classes, config.augment.zoom, config.run.out) == (("a", "b"), (0.5, 1.5), Path("here"))


@pytest.mark.parametrize("flags", [{}, {"weights": "pretrained"}, {"seed": 3, "out": "a b"}, {"set": ("a='é\"\\'",)}, EVERYTHING])
def test_a_printed_configuration_is_read_back_unchanged(flags: dict[str, Any]) -> None:
    config = settle(**flags)
    printed = to_toml(config)
    assert resolve({}, file=write(printed)) == config
    assert to_toml(resolve({}, file=write(printed))) == printed


def test_flags_win_over_a_printed_configuration() -> None:
    file = write(to_toml(settle(epochs=3)))
    assert resolve({"optim": {"epochs": 5}}, file=file).optim.epochs == 5


# --- recipes and fields -----------------------------------------------------------------------------------------------


def test_the_recipes_are_the_files_of_the_package() -> None:
    assert recipe_names() == sorted(path.stem for path in RECIPES.glob("*.toml"))
    assert {"case-study", "default", "finetune"} <= set(recipe_names())


@pytest.mark.parametrize("name", [path.stem for path in RECIPES.glob("*.toml")])
def test_every_recipe_sets_known_settings_that_can_be_used(name: str) -> None:
    content = tomllib.loads((RECIPES / f"{name}.toml").read_text("utf-8"))
    longer = content.pop("larger", [])
    config = resolve({"model": {"weights": "pretrained"}}, recipe=name)
    assert config.recipe == name
    assert [larger.images for larger in config.larger] == [table["images"] for table in longer]
    for tables, resolved in ((content, config), *((table, with_tier(config, config.larger[at])) for at, table in enumerate(longer))):
        tables.pop("images", None)
        assert set(tables) <= set(SECTIONS)
        for section, values in tables.items():
            assert set(values) <= set(SECTIONS[section].model_fields)
            for field, value in values.items():
                assert getattr(getattr(resolved, section), field) == (tuple(value) if isinstance(value, list) else value)


def test_the_default_recipe_changes_no_default() -> None:
    assert resolve({}, recipe="default") == TrainConfig()


def test_a_setting_has_one_section_and_a_description() -> None:
    fields = [field for _, field in SETTINGS]
    assert len(set(fields)) == len(fields)
    for section, field in SETTINGS:
        description = SECTIONS[section].model_fields[field].description
        assert description, field
        assert description.endswith(".") or field == "arch", field
    assert [flag(field) for field in ("lr", "batch_size")] == ["--lr", "--batch-size"]


def test_flat_settings_are_sorted_into_their_sections() -> None:
    assert by_section({"lr": 1, "seed": 2, "epochs": 3}) == {"optim": {"lr": 1, "epochs": 3}, "run": {"seed": 2}}


def test_auto_is_read_back_and_can_be_settled_to_numbers() -> None:
    config = settle(lr="auto", batch_size="auto", epochs=3)
    assert (config.optim.lr, config.optim.batch_size) == ("auto", "auto")
    assert resolve({}, file=write(to_toml(config))) == config
    assert config.optim.settled(batch_size=8, lr=0.5) == OptimConfig(epochs=3, batch_size=8, lr=0.5)
    with pytest.raises(ValidationError):
        OptimConfig(lr="auto")  # pyright: ignore[reportArgumentType]


def test_numbers_for_the_engine_have_the_defaults_of_the_settings() -> None:
    assert OptimConfig().model_dump() == OptimSettings().model_dump()


def test_a_configuration_cannot_be_changed() -> None:
    config = validated({})
    with pytest.raises(ValidationError):
        config.optim.lr = 1.0
    with pytest.raises(ValidationError):
        config.recipe = "other"


def test_the_settings_import_neither_torch_nor_numpy() -> None:
    program = "import sys, cnnkit.config.settings; print([name for name in ('torch', 'numpy', 'typer', 'rich') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- a time budget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90s", 90), ("90", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("1.5m", 90), (" 2M0s", 120), (45, 45)],
)
def test_a_budget_is_read_as_a_duration(given: Any, seconds: float) -> None:
    assert settle(budget=given).optim.budget == seconds


@pytest.mark.parametrize("given", ["soon", "", "10 minutes", "m", "1m1h"])
def test_the_error_for_a_wrong_budget_has_examples(given: str) -> None:
    with pytest.raises(ConfigError, match=rf"`--budget` \(={given}\) must be a time such as 90s, 10m or 1h30m"):
        settle(budget=given)


def test_epochs_and_a_budget_together_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--epochs \(=3\) cannot be used with --budget \(=2m\), which trains until the time is up; leave one out"
    ):
        settle(epochs=3, budget="2m")
    assert settle(epochs=3, budget=0).optim.epochs == 3


def test_epochs_replace_the_budget_of_a_recipe() -> None:
    fast = resolve({}, recipe="fast").optim
    assert fast.budget > 0
    assert resolve({"optim": {"epochs": 3}}, recipe="fast").optim.budget == 0
    assert resolve({"optim": {"budget": 60}}, recipe="fast").optim.budget == 60


def test_a_recipe_may_have_a_larger_network_for_longer_budgets() -> None:
    config = resolve({}, recipe="fast")
    (larger,) = config.larger
    long = with_tier(config, larger)
    assert config.model.set != long.model.set
    assert (config.optim.start_size, long.optim.start_size) == (0, 24)
    assert (long.larger, long.recipe, long.optim.budget) == ((), "fast", config.optim.budget)
    assert resolve({"optim": {"budget": 120}}, recipe="fast").larger == (larger,)
    assert resolve({"optim": {"epochs": 3}}, recipe="fast").larger == ()  # without a budget there are no tiers
    assert resolve({"model": {"arch": "residual-cnn"}}, recipe="fast").larger == ()
    with pytest.raises(ConfigError, match=r"`--budget` \(=soon\) must be a time"):
        resolve({"optim": {"budget": "soon"}}, recipe="fast")


def test_flags_win_over_tiers() -> None:
    asked = resolve({"model": {"set": ("width=48",)}, "optim": {"batch_size": 100}}, recipe="fast")
    long = with_tier(asked, asked.larger[0])
    assert (long.model.set, long.optim.batch_size, long.optim.start_size) == (("width=48", "middle=4"), 100, 24)
    everything = {"model": {"set": ("width=48", "middle=4")}, "optim": {"batch_size": 100, "lr": 1e-2, "start_size": 0}}
    assert resolve(everything, recipe="fast").larger == ()


def test_a_file_may_have_its_own_tiers() -> None:
    text = "[optim]\nbudget = 60\nlr = 0.1\n[[larger]]\nimages = 20\noptim.lr = 0.2\n[[larger]]\nimages = 5\nmodel.set = ['width=9']\n"
    config = resolve({"optim": {"budget": "2m"}}, file=write(text))
    assert [larger.images for larger in config.larger] == [5, 20]
    assert [with_tier(config, larger).optim.lr for larger in config.larger] == [0.1, 0.2]
    assert with_tier(config, config.larger[0]).model.set == ("width=9",)


def test_tiers_need_a_budget_unless_epochs_are_given() -> None:
    file = write("[[larger]]\nimages = 5\noptim.lr = 0.2\n")
    with pytest.raises(ConfigError, match=r"\[\[larger\]\] needs a time budget; add one, such as --budget 10m, or leave it out$"):
        resolve({}, file=file)
    assert resolve({"optim": {"budget": 60}}, file=file).larger[0].optim == {"lr": 0.2}
    assert resolve({"optim": {"epochs": 2}}, file=file).larger == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.lr = 0.2", r"\[\[larger\]\] must have images, a number above 0, .* images: field required"),
        ("images = 0", "images: input should be greater than 0"),
        ("images = 3\nrun.seed = 1", "run: extra inputs are not permitted"),
        ("images = 3\noptim.rate = 1", "optim.rate: there is no such setting"),
        ("images = 3\noptim.lr = -1", r"`--lr` \(=-1\) must be a number above 0"),
    ],
)
def test_tiers_are_checked_before_a_speed_is_measured(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve({}, file=write(f"[optim]\nbudget = 60\n[[larger]]\n{text}\n"))


def test_options_of_the_architecture_are_layered_one_by_one() -> None:
    config = resolve({"model": {"set": ("dropout=0.1", "width=8")}, "optim": {"budget": 600}}, recipe="fast")
    assert config.model.set == ("width=8", "dropout=0.1")
    assert with_tier(config, config.larger[0]).model.set == ("width=8", "dropout=0.1", "middle=4")
    assert resolve({"model": {"arch": "residual-cnn", "set": ("dropout=0.1",)}}, recipe="fast").model.set == ("dropout=0.1",)
    assert resolve({"model": {"arch": "residual-cnn"}}, recipe="fast").model.set == ()
    file = write("[model]\nset = ['width=8']")
    assert resolve({"model": {"set": ("dense=3",)}}, file=file).model.set == ("width=8", "dense=3")


def test_a_printed_budget_is_read_back() -> None:
    config = resolve({}, recipe="fast")
    assert resolve({}, file=write(to_toml(config))) == config


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_neither_splits_the_data_nor_mirrors_digits(name: str) -> None:
    given = "some.safetensors" if name == "finetune" else "none"
    config = resolve({"model": {"weights": given}}, recipe=name)
    assert config.data == DataConfig()  # data with its own split would refuse another --split
    assert resolve_augmentation(config.augment, ("cats", "dogs"))[0].flip == "h"
    assert resolve_augmentation(config.augment, ("6", "9"))[0].flip == "none"


def test_a_file_of_settings_may_come_from_any_system() -> None:
    Path("s.toml").write_bytes("\ufeff[data]\r\ndata = 'café'\r\n".encode())
    assert resolve({}, file=Path("s.toml")).data.data == "café"
    Path("s.toml").write_bytes(b"[data]\ndata = 'caf\xe9'\n")
    with pytest.raises(ConfigError, match=r"--config s\.toml: not a TOML file: line 2 is not UTF-8; save the file with the encoding UTF-8"):
        resolve({}, file=Path("s.toml"))


@pytest.mark.parametrize("classes", ["cafe\u0301, tea", ("cafe\u0301", "tea"), ["caf\u00e9", " tea "]])
def test_class_names_are_composed(classes: object) -> None:
    assert resolve({"data": {"classes": classes}}).data.classes == ("caf\u00e9", "tea")
