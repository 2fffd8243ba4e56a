"""The networks of a population, in stacks, as one module that predicts."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from model.classifier import Classifier
from model.member import Member
from model.stack import Stack


class PopulationNetworks(LightningModule):
    """The networks of a population, which predict as an ensemble.

    It takes standardized features, (rows, num_features) or (members, rows, num_features), and
    returns logits: the logarithm of the mean of the members' probabilities.

    Args:
        num_features: Number of features.
        num_classes: Number of classes.
        settings: The components of each candidate: arguments of `Classifier`. Every checkpoint of a
            population has this name.
        members: The networks, each a `Member`.
        stacks: The member indices of each stack.

    Raises:
        ValueError: What `Classifier` refuses.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        settings: Sequence[dict[str, Any]],
        members: Sequence[Sequence[int]],
        stacks: list[list[int]],
    ) -> None:
        super().__init__()
        self.candidates = list(settings)
        self.members = [Member(*member) for member in members]
        self.num_classes = num_classes
        # A tuple, so that the classifiers' networks are not registered with the population.
        self.classifiers = tuple(
            Classifier(num_features, num_classes, **candidate) for candidate in self.candidates
        )
        self.criteria = nn.ModuleList(classifier.loss for classifier in self.classifiers)
        self.save_hyperparameters(
            {
                "num_features": num_features,
                "num_classes": num_classes,
                "settings": self.candidates,
                "members": [list(member) for member in self.members],
            },
            logger=False,
        )
        self.make_stacks(stacks)

    def make_stacks(self, stack_indices: list[list[int]]) -> None:
        """Make the stacks of these member indices."""
        self.stack_indices = stack_indices
        # A ModuleList declares no type for its modules.
        self.stacks: Sequence[Stack] = nn.ModuleList(  # type: ignore[assignment]
            self.make_stack([self.members[index] for index in indices]) for indices in stack_indices
        )
        self.hparams["stacks"] = stack_indices

    def make_stack(self, members: list[Member]) -> Stack:
        """A new stack of these members."""
        make_network = self.classifiers[members[0].candidate].make_network
        stack = Stack(make_network, [member.seed for member in members])
        stack.loop_unless_vmap(self.hparams["num_features"])
        return stack

    def forward(self, features: Tensor) -> Tensor:
        return self.probabilities(features).mean(0).log()

    def probabilities(self, features: Tensor) -> Tensor:
        """Each member's probabilities, in the order of the stacks: (members, rows, num_classes).

        Takes what `forward` takes.
        """
        sizes = [len(indices) for indices in self.stack_indices]
        member_features = features.expand(sum(sizes), *features.shape[-2:])
        probabilities = []
        for stack, x in zip(self.stacks, member_features.split(sizes), strict=True):
            probabilities.append(stack(x.mT).softmax(1).mT)
        return torch.cat(probabilities)
