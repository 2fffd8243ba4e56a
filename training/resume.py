"""A resumed run goes on with its own settings: what may change, and the refusal of all else."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from cli.arguments import read_file as read_settings
from cli.arguments import take_prefixed
from cli.component import build, describe, flatten
from cli.convert import to_text
from cli.registry import REGISTRY
from data.checkpoint_format import run_dir_of
from data.tabular import TabularData
from model.population import Population
from model.schedule import accepted_by
from model.shares import share_of
from training.checkpoints import read_resumed

# What a resumed run may change: where it computes, when it stops, and what it shows. max_epochs may
# grow unless the run's length is part of its schedule or optimizer.
CHANGEABLE = {
    "accelerator",
    "devices",
    "strategy",
    "num_nodes",
    "max_epochs",
    "patience",
    "pictures",
    "callbacks",
    "loggers",
    "trainer.log_every_n_steps",
    "trainer.max_time",
    "trainer.profiler",
    "trainer.detect_anomaly",
}
LENGTHS = {"total_steps": 0, "T_max": 0}  # arguments that give a component the run's length


def check_resume(
    resume: str | None,
    config: dict[str, Any],
    module: LightningModule,
    datamodule: TabularData,
    trainer: Trainer,
) -> str | None:
    """Return the checkpoint of the run to resume, after comparing all settings; None for a new run.

    Nothing is written.

    Args:
        resume: The run's folder, or its last.ckpt.
        config: The settings that are given now, as plain data.
        module: What will be trained.
        datamodule: The table, after `setup()`.
        trainer: The Trainer of the fit.

    Raises:
        ValueError: There is no such run, or it was trained with another setting or on other rows.
    """
    if resume is None:
        return None
    checkpoint = find_checkpoint(resume)
    before = with_defaults(read_settings(str(run_dir_of(checkpoint) / "config.yaml")))
    compare_settings(flatten(config), before, CHANGEABLE)
    check_length(config, before)
    content = read_resumed(str(checkpoint))
    try:
        check_components(module, content.get("hyper_parameters", {}))
    except ValueError as error:
        raise ValueError(f"{checkpoint} cannot be resumed: {error}") from error
    if isinstance(module, Population):
        share_of(content, module.fingerprint, trainer.global_rank, trainer.world_size)
    else:
        datamodule.load_state_dict(content[type(datamodule).__qualname__])
        check_steps(content, datamodule, trainer)
    return str(checkpoint)


def find_checkpoint(resume: str) -> Path:
    """The last.ckpt of a run that is given by its folder or by this file.

    Raises:
        ValueError: It is not in a run's folder.
    """
    checkpoint = Path(resume)
    if checkpoint.is_dir():
        checkpoint = checkpoint / "checkpoints" / "last.ckpt"
    is_in_run = (run_dir_of(checkpoint) / "config.yaml").is_file()
    if not (is_in_run and checkpoint.absolute().parent.name == "checkpoints"):
        raise ValueError(
            f"resume is {resume!r}, which is not in a run's folder; give its checkpoints/last.ckpt"
        )
    return checkpoint


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings, with arguments of components that an older version did not write."""
    complete = dict(settings)
    for name in REGISTRY.keys() & settings.keys():
        component = None
        if settings[name] is not None:
            arguments = take_prefixed(complete, f"{name}.")
            component = describe(name, build(name, {"class": settings[name]} | arguments))
        complete |= flatten({name: component})
    return complete


def compare_settings(
    given: dict[str, Any], before: dict[str, Any], changeable: Collection[str]
) -> None:
    """Refuse settings that are not the run's, unless they may change.

    Args:
        given: Settings by their flags.
        before: The run's.
        changeable: Those that may differ.

    Raises:
        ValueError: It names the settings that differ.
    """
    differing = [
        key
        for key in sorted(given.keys() | before.keys())
        if key not in changeable and to_text(given.get(key)) != to_text(before.get(key))
    ]
    # Another class has other arguments; an older version had fewer settings.
    old = {key for key in differing if "." not in key and not (key in given and key in before)}
    named = [key for key in differing if key not in old and parent(key) not in differing]
    if named:
        values = ", ".join(
            f"{key} is {to_text(given.get(key))} and not {to_text(before.get(key))}"
            for key in named
        )
        flags = ", ".join(f"--{key}" for key in named)
        raise ValueError(
            f"a resumed run keeps its settings, but {values}; "
            f"leave out {flags}, or start a new run without --resume"
        )


def parent(key: str) -> str:
    """The component that an argument belongs to; nothing for another setting."""
    name, dot, _ = key.partition(".")
    return name if dot else ""


def check_length(config: dict[str, Any], before: dict[str, Any]) -> None:
    """Refuse another number of epochs that the run cannot go on to.

    Raises:
        ValueError: It is smaller, or a component was made for the run's.
    """
    epochs = config["max_epochs"]
    if epochs < before["max_epochs"]:
        raise ValueError(
            f"max_epochs is {epochs}, but the run to resume has {before['max_epochs']}; "
            "leave --max_epochs out, or give more"
        )
    if epochs == before["max_epochs"]:
        return
    for name in ("schedule", "optimizer"):
        if config[name] is not None and accepted_by(build(name, config[name]), LENGTHS):
            raise ValueError(
                f"max_epochs is {epochs}, but {name} {config[name]['class']} of the run to resume "
                f"was made for {before['max_epochs']} epochs; leave --max_epochs out, or start a "
                "new run without --resume"
            )


def check_components(module: LightningModule, saved: dict[str, Any]) -> None:
    """Refuse the checkpoint of another run, which lies in the folder of this one.

    Raises:
        ValueError: It has other components than the run's settings say.
    """
    for name, value in module.hparams.items():
        if name in ("members", "stacks"):  # of this process
            continue
        if name not in saved or differs(value, saved[name]):
            raise ValueError(
                f"config.yaml has not its {name}; give the run's own checkpoint and config.yaml"
            )


def differs(value: Any, saved: Any) -> bool:
    """Whether plain data are not the same, but for keys that another version did not save."""
    if isinstance(value, dict) and isinstance(saved, dict):
        return any(differs(value[key], saved[key]) for key in value.keys() & saved.keys())
    if isinstance(value, list) and isinstance(saved, list):
        pairs = zip(value, saved, strict=False)
        return len(value) != len(saved) or any(differs(*pair) for pair in pairs)
    return bool(value != saved)


def check_steps(content: dict[str, Any], datamodule: TabularData, trainer: Trainer) -> None:
    """Refuse a run whose epochs had other steps: an earlier version counted a process's rows.

    Raises:
        ValueError: The steps of the checkpoint are not those of whole epochs.
    """
    if datamodule.is_streamed:
        check_position(content, trainer)
        return
    if trainer.limit_train_batches != 1.0:
        return
    rows = len(datamodule.splits["train"][1])
    batches = -(-rows // min(datamodule.batch_size or rows, rows))
    steps = -(-batches // trainer.accumulate_grad_batches)
    done, epoch = content["global_step"], content["epoch"]
    if done not in (steps * epoch, steps * (epoch + 1)):
        raise ValueError(
            f"an epoch has {steps} steps, which do not make up the {done} steps of the run to "
            "resume: it is of a version in which each process took batch_size rows; start anew"
        )


def check_position(content: dict[str, Any], trainer: Trainer) -> None:
    """Refuse to go on in the middle of a stream's epoch with another number of processes.

    Raises:
        ValueError: Each process would go on in rows that another one has had.
    """
    position = content.get("resume", {}).get("position")
    if position is not None and position["processes"] != trainer.world_size:
        raise ValueError(
            f"the run to resume was in the middle of an epoch in {position['processes']} "
            f"processes, and there are {trainer.world_size}; give --devices as it was then"
        )
