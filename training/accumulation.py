"""Gradients accumulated over several batches: what each batch counts."""

from lightning.pytorch import Trainer

from data.streaming.batches import StreamBatches
from training.batches import TensorBatches


def batch_share(trainer: Trainer, batch_idx: int) -> float:
    """What to multiply a batch's mean loss with, so that a group's gradients are its rows' mean.

    Lightning divides every loss by `accumulate_grad_batches`, as if all batches were equal and
    every group had as many. The last group of an epoch may have fewer, and the last batch fewer
    rows. With this factor, k batches of b rows give the gradients of one batch of k * b rows.

    Args:
        trainer: The Trainer of the fit.
        batch_idx: Index of the batch in its epoch.
    """
    size = trainer.accumulate_grad_batches
    first = batch_idx - batch_idx % size
    batches = min(size, trainer.num_training_batches - first)
    loader = trainer.train_dataloader
    if not isinstance(loader, TensorBatches | StreamBatches):  # only batches are known
        return size / batches
    group_rows = min(batches * loader.batch_size, loader.rows - first * loader.batch_size)
    rows = min(loader.batch_size, loader.rows - batch_idx * loader.batch_size)
    return size * rows / group_rows
