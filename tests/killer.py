"""A callback that kills its process at a chosen moment of a run: kill -9, nothing is cleaned up."""

import os
import shutil
import signal
from pathlib import Path

from lightning.pytorch import Callback

from training.checkpoints import LastCheckpoint


class Kill(Callback):
    """Kills at the moment that the environment names, such as KILL="epoch 4"; without it, nothing.

    last.ckpt is then written at the end of epoch SAVE only, and at the end of the fit; with WITHIN
    after every epoch, and every step of a stream.
    """

    def setup(self, trainer, pl_module, stage):
        self.moment = os.environ.get("KILL")
        if "WITHIN" in os.environ:
            LastCheckpoint.seconds = -1
            LastCheckpoint.seconds_within = -1
            LastCheckpoint.steps_between = 1
        if self.moment == "write":
            self.kill_in_second_write()

    def at(self, moment):
        if moment == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def kill_in_second_write(self):
        sync = os.fsync
        left = [2]

        def fsync(file):
            if Path(f"/proc/self/fd/{file}").readlink().name == "last.ckpt.part":
                left[0] -= 1
            if left[0] == 0:
                os.truncate(file, 1000)  # half a file
                os.kill(os.getpid(), signal.SIGKILL)
            sync(file)

        os.fsync = fsync

    def on_train_epoch_start(self, trainer, pl_module):
        if self.moment and "SAVE" in os.environ:
            is_due = trainer.current_epoch + 1 == int(os.environ["SAVE"])
            LastCheckpoint.seconds = -1e9 if is_due else 1e9

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.moment:
            self.at_or_copy(trainer, f"epoch {trainer.current_epoch + 1} batch {batch_idx + 1}")

    def on_validation_end(self, trainer, pl_module):
        self.at(f"validation {trainer.current_epoch + 1}")

    def on_train_epoch_end(self, trainer, pl_module):
        self.at_or_copy(trainer, f"epoch {trainer.current_epoch + 1}")

    def at_or_copy(self, trainer, moment):
        self.at(moment)
        if self.moment == f"copy after {moment}":
            folder = trainer.log_dir  # which all processes must ask for
            if trainer.is_global_zero:
                shutil.copytree(folder, "killed/version_0")  # what a kill would leave

    def on_test_start(self, trainer, pl_module):
        self.at("test")

    def on_test_end(self, trainer, pl_module):
        self.at("tested")
