"""The running sums of an epoch, and the part of an epoch that a state inside it has done."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochPart:
    """The part of an epoch that is done: its number of `batches`, their `sums`, the `random` states of torch, and `seconds` of training."""

    batches: int
    sums: dict[str, Tensor]
    random: dict[str, Tensor]
    seconds: float


class EpochSums:
    """Running sums of an epoch of `batches` batches, kept on the device so that adding does not wait for it.

    The tensors are allocated once. A small tensor kept from every step would lie between the freed activations of two
    steps. The allocator could then not reuse their memory: see docs/benchmarks/LOG.md, "Running sums of an epoch".
    """

    def __init__(self, batches: int, device: torch.device, part: EpochPart | None = None) -> None:
        self.images = self.batches = 0
        self._losses = torch.zeros(batches, device=device)
        self._sizes = torch.zeros(batches)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        if part is not None:
            self.batches = part.batches
            self._losses[: self.batches] = part.sums["losses"].to(device)
            self._sizes[: self.batches] = part.sums["sizes"]
            self._correct += part.sums["correct"].to(device)
            self.images = int(part.sums["sizes"].sum())

    def add(self, loss: Tensor, correct: Tensor, images: int) -> None:
        """Add a batch of `images` by its mean `loss` and its number of `correct` predictions."""
        self._losses[self.batches] = loss
        self._sizes[self.batches] = images
        self._correct += correct
        self.images += images
        self.batches += 1

    @property
    def losses(self) -> Tensor:
        """The losses of the batches added so far."""
        return self._losses[: self.batches]

    def means(self) -> tuple[float, float]:
        """Return the mean loss per image and the accuracy."""
        total = (self.losses.cpu().double() * self._sizes[: self.batches].double()).sum()
        return float(total / self.images), int(self._correct) / self.images

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the sums for an `EpochPart`."""
        return {"losses": self.losses.cpu().clone(), "sizes": self._sizes[: self.batches].clone(), "correct": self._correct.cpu().clone()}
