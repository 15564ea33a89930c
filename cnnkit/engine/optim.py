"""The optimizer, its parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.custom import BuildOptimizer
from cnnkit.engine.eager import eager
from cnnkit.engine.muon import Muon
from cnnkit.engine.progress import TrainingProgress

if TYPE_CHECKING:
    from torch.optim import Optimizer

MOMENTUM = 0.9  # Nesterov's, as in arXiv:1512.03385 and nearly every recipe since


def build_optimizer(model: nn.Module, config: OptimConfig, build: BuildOptimizer | None = None) -> Optimizer:
    """Return the optimizer that `config` names, for the parameters of `model` that learn.

    Parameters that the architecture keeps fixed (``requires_grad=False``) stay fixed. Biases and normalisation weights,
    which have at most one dimension, get no weight decay. With ``layer_decay`` below 1, each group carries an
    ``lr_scale`` that falls from the last layer to the first. `build` is the optimizer of another package.
    """
    groups = _layer_groups(model, config) if config.layer_decay < 1 else _two_groups(model, config.weight_decay)
    if build is not None:
        return build(groups, config.lr)
    if config.optimizer == "muon":
        return eager(Muon)(_split_hidden_matrices(model, groups), lr=config.lr)
    fused = True if _suits_fused_kernels(model) else None
    if config.optimizer == "sgd":
        return eager(torch.optim.SGD)(groups, lr=config.lr, momentum=MOMENTUM, nesterov=True, fused=fused)
    if config.optimizer == "adam":
        return eager(torch.optim.Adam)(groups, lr=config.lr, fused=fused)
    return eager(torch.optim.AdamW)(groups, lr=config.lr, fused=fused)


def _suits_fused_kernels(model: nn.Module) -> bool:
    """Return whether one launch of a GPU can update all parameters, by the rules of torch: floating-point numbers on a CUDA GPU."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return bool(learning) and all(parameter.device.type == "cuda" and parameter.is_floating_point() for parameter in learning)


def learning_rate(step: int, progress: TrainingProgress, config: OptimConfig) -> float:
    """Return the learning rate of `step` (from 0): warm-up to the peak ``config.lr``, then decay by ``config.schedule``."""
    peak = config.lr * progress.warmup_factor(step)
    done = progress.decay_progress(step)
    if config.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return peak * (1 - done)
    return peak


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group to `lr` times its ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def _two_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learning if parameter.ndim > 1]
    vectors = [parameter for parameter in learning if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _split_hidden_matrices(model: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Split every group into the matrices before the last layer, which Muon updates, and the rest."""
    matrices = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim > 1]
    hidden = {id(parameter) for parameter in matrices[:-1] if min(parameter.flatten(1).shape) > 1}
    divided: list[dict[str, Any]] = []
    for group in groups:
        for muon in (True, False):
            chosen = [parameter for parameter in group["params"] if (id(parameter) in hidden) is muon]
            divided.append({**group, "params": chosen, "muon": muon})
    return [group for group in divided if group["params"]]


def _layer_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    if hasattr(model, "group_matcher"):  # timm's convention: the network defines its layers
        from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]  # timm takes seconds to import

        return param_groups_layer_decay(model, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
    layers = _layers(model)
    last = max(layers.values())
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer, matrix = layers[name], parameter.ndim > 1
            new = {"params": [], "weight_decay": config.weight_decay * matrix, "lr_scale": config.layer_decay ** (last - layer)}
            groups.setdefault((layer, matrix), new)["params"].append(parameter)
    return list(groups.values())


def _layers(model: nn.Module) -> dict[str, int]:
    """Number the layers in the order of their definition: a matrix starts a layer, the vectors after it (bias, norm) belong to it."""
    layers: dict[str, int] = {}
    number = -1
    for name, parameter in model.named_parameters():
        number += parameter.ndim > 1
        layers[name] = max(number, 0)
    return layers
