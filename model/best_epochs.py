"""BestEpochs: in which epoch each member of a stack is best, fails or stops."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.scores import best_mode

# Arrays (members,) that a resumed fit goes on with.
MEMBER_STATE = ("best", "best_epoch", "waited", "active", "failed_in")


class BestEpochs:
    """For every member of a stack what ModelCheckpoint and EarlyStopping are for one network.

    `active` is whether a member still trains; `failed_in` is the epoch in which it diverged, from
    1, or 0; `best_epoch` is the epoch of its kept weights, from 1. All are (members,).

    Args:
        stacked: The parameters of the stack, (members, *shape).
        watched: The curve that decides about epochs, such as val/log_loss.
        patience: A member stops after this many epochs without a better value; None: never.
    """

    def __init__(self, stacked: Sequence[Tensor], watched: str, patience: int | None) -> None:
        self.stacked = stacked
        self.watched = watched
        self.patience = patience
        self.has_validation = watched.startswith("val/")
        # Whether a member may end with the weights of another epoch than the last.
        self.keeps_weights = self.has_validation or patience is not None
        members = len(stacked[0])
        self.size = members  # at the start
        self.positions = np.arange(members)  # of the members that are left, in the first ones
        self.kept = [parameter.detach().clone() for parameter in stacked]
        self.best = np.full(members, np.inf)
        self.best_epoch = np.zeros(members, dtype=int)
        self.waited = np.zeros(members, dtype=int)
        self.active = np.ones(members, dtype=bool)
        self.failed_in = np.zeros(members, dtype=int)

    def end_epochs(self, first: int, metrics: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
        """Mark the members that diverged; keep the best weights and stop members, where asked to.

        Args:
            first: The first epoch, from 1. Where weights are kept there is one epoch.
            metrics: For each epoch each metric's values, (members,).

        Returns:
            Each metric's values, (epochs, members), with NaN for members that had stopped before
            an epoch, those that were left out included.
        """
        # One copy from the device for all metrics, in float64 only there: some devices have none.
        rows = torch.stack([value for epoch in metrics for value in epoch.values()])
        table = rows.cpu().double().numpy().reshape(len(metrics), len(metrics[0]), -1)
        stays = self.active & np.logical_and.accumulate(np.isfinite(table).all(1))
        begins = np.concatenate([self.active[None], stays[:-1]])
        failed = self.active & ~stays[-1]
        self.failed_in[failed] = first + (~stays).argmax(0)[failed]
        self.active = stays[-1].copy()
        recorded = {}
        for i, name in enumerate(metrics[0]):
            recorded[name] = np.full((len(metrics), self.size), np.nan)
            recorded[name][:, self.positions] = np.where(begins, table[:, i], np.nan)
        if self.keeps_weights:
            values = table[-1, list(metrics[0]).index(self.watched)]
            self.keep_better(first, -values if best_mode(self.watched) == "max" else values)
        return recorded

    def keep_better(self, epoch: int, losses: np.ndarray) -> None:
        """Keep the weights of members that are better than before; stop those out of patience.

        Args:
            epoch: The epoch, from 1.
            losses: What is watched, the lower the better, (members,).
        """
        better = self.active & (losses < self.best)
        # Without validation rows the weights of a member's last epoch are kept.
        keep = better if self.has_validation else self.active
        indices = torch.from_numpy(np.flatnonzero(keep)).to(self.kept[0].device)
        for kept, stacked in zip(self.kept, self.stacked, strict=True):
            kept[indices] = stacked.detach()[indices]
        self.best[better] = losses[better]
        self.best_epoch[keep] = epoch
        if self.patience is not None:
            self.waited = np.where(better, 0, self.waited + 1)
            self.active &= self.waited < self.patience

    @torch.no_grad()
    def end_fit(self, epochs: int) -> None:
        """Give every member the weights it kept; mark those that the last step ruined."""
        for kept, stacked in zip(self.kept, self.stacked, strict=True):
            if self.keeps_weights:
                stacked.copy_(kept)
            finite = stacked.flatten(1).isfinite().all(1).cpu().numpy()
            self.failed_in[~finite & (self.failed_in == 0)] = epochs

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchange the weights of the stack and the kept ones; with a second call, back again."""
        if self.keeps_weights:
            for kept, stacked in zip(self.kept, self.stacked, strict=True):
                now = stacked.detach().clone()
                stacked.copy_(kept)
                kept.copy_(now)

    def keep_only(self, members: list[int]) -> None:
        """Go on with these members only; the stack has already left out the others."""
        self.kept = [kept[members] for kept in self.kept]
        for name in (*MEMBER_STATE, "positions"):
            setattr(self, name, getattr(self, name)[members])

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit goes on with."""
        state: dict[str, Any] = {"kept": self.kept, "positions": self.positions.tolist()}
        return state | {name: torch.from_numpy(getattr(self, name)) for name in MEMBER_STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a state of the same members."""
        self.kept = [kept.to(self.kept[0].device) for kept in state["kept"]]
        for name in MEMBER_STATE:
            setattr(self, name, state[name].numpy().copy())
