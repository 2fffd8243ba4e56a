"""Many as one: networks that train as a population and predict as a single network."""

import numpy as np
from lightning.pytorch import Trainer

from cli.registry import LEARNED
from data.members import check_rows_on, check_validation, member_splits
from data.tabular import TabularData
from evaluation.devices import stack_bytes, train_shares
from evaluation.ensemble import write_checkpoint
from evaluation.members import as_one
from model.ensemble import Ensemble
from model.member import FoldData, Member
from model.population import Population
from model.scores import Metric
from model.steps import Steps
from training.curves import CurveBands
from training.fast import FastClassifier
from training.result import SplitMetrics
from training.run import Run


class Members:
    """The networks that a run trains as one.

    Each holds out a fold of the training rows and ends with its best epoch on it. `fit` returns
    the networks as a single one; afterwards `best_epoch` is the median of theirs, and `held_out`
    says how well each training row is predicted by the network that held it out.

    Args:
        classifier: A single network, of which these are copies with other initial weights.
        datamodule: The table, after `setup()`.
        members: Number of networks.
        seed: The seed of the first network; the others count up from it.
        patience: A network stops after this many epochs without a better metric.
        metric: The score by which a network chooses its epoch.
        trainer: The Trainer of the run.

    Raises:
        ValueError: More networks than the smallest class has rows, a validation split, or a
            network that cannot be a member.
    """

    def __init__(
        self,
        classifier: FastClassifier,
        datamodule: TabularData,
        members: int,
        seed: int,
        patience: int | None,
        metric: Metric,
        trainer: Trainer,
    ) -> None:
        if classifier.compiles:
            raise ValueError(
                f"--compile makes a program of a single network, and {members} are trained as one; "
                "give --members 1"
            )
        check_validation(datamodule, members)
        check_rows_on(datamodule)
        train_shares(trainer)
        self.datamodule = datamodule
        self.trainer = trainer
        self.components = {name: classifier.hparams[name] for name in LEARNED}
        rows = datamodule.indices["train"]
        self.splits = member_splits(datamodule.splits, members, datamodule, rows)
        everyone = [Member(0, index, seed + index) for index in range(members)]
        self.population = Population(
            datamodule.num_features,
            datamodule.num_classes,
            [self.components],
            everyone[trainer.global_rank :: trainer.world_size],
            [FoldData(splits, datamodule.augment) for splits in self.splits],
            batch_size=datamodule.batch_size,
            patience=patience,
            metric=metric,
            stack_bytes=stack_bytes(trainer.strategy.root_device),
            steps=Steps.take(trainer),
        )

    def fit(self, run: Run, resume: str | None) -> FastClassifier:
        """Fit the networks; return them as one, and write it as the run's best.ckpt.

        Args:
            run: Its logger gets the curves, its folder the checkpoint.
            resume: The checkpoint of an interrupted fit, to go on with.

        Raises:
            FloatingPointError: A network ended with weights or a loss that are not finite.
        """
        population = self.population
        # Lightning's Trainer does not declare its list of callbacks.
        self.trainer.callbacks.insert(0, CurveBands([run.logger]))  # type: ignore[attr-defined]
        self.trainer.fit(population, ckpt_path=resume, weights_only=True)

        outcomes = [population.outcomes[member] for member in sorted(population.outcomes)]
        prediction = as_one(outcomes, self.splits)
        self.best_epoch = int(np.median([outcome.best_epoch for outcome in outcomes]))
        held_out = prediction.held_out
        targets = prediction.held_out_targets
        if self.datamodule.times is not None:  # all hold out the same rows
            targets = targets[: len(targets) // len(self.splits)]
            held_out = held_out.reshape(len(self.splits), len(targets), -1).mean(0)
        self.held_out = SplitMetrics.from_probabilities(
            held_out, targets, self.datamodule.class_names
        )
        classifier = self.ensemble(prediction.temperature)
        if run.is_main_process:
            write_checkpoint(run.run_dir / "checkpoints" / "best.ckpt", classifier, self.datamodule)
        self.trainer.strategy.barrier()
        return classifier

    def ensemble(self, temperature: float) -> FastClassifier:
        """The fitted networks as a single one."""
        weights = self.population.weights()
        config = {
            "class": "Ensemble",
            "network": self.components["network"],
            "members": len(weights),
            "temperature": temperature,
        }
        classifier = FastClassifier(
            self.datamodule.num_features,
            self.datamodule.num_classes,
            **self.components | {"network": config},
        )
        assert isinstance(classifier.network, Ensemble)
        classifier.network.stack.load_members([weights[member] for member in sorted(weights)])
        return classifier
