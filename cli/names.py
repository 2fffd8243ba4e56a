"""Names of settings: those that are flags, and what to say of the others."""

from collections.abc import Collection, Iterable
from inspect import signature

from cli.errors import unknown
from cli.schema import BELONGS_TO, REQUIRED, SET_BY_PROGRAM, Schema

# Names that other programs give a flag, by its last part.
SYNONYMS = {
    "learning_rate": "lr",
    "epochs": "max_epochs",
    "gpus": "devices",
    "steps": "max_steps",
    "workers": "devices",
    "csv": "path",
    "label": "target",
}


def check_names(
    keys: Iterable[str],
    schema: Schema,
    more_flags: Iterable[str] = (),
    parameters: Collection[str] = (),
) -> None:
    """Refuse a key that is not a flag.

    Args:
        keys: The keys that are given.
        schema: All arguments.
        more_flags: Flags that are not arguments.
        parameters: The parameters of the command's function.

    Raises:
        ValueError: With the nearest flag; for an argument that the program sets, with the reason;
            for one of another command, with its name.
    """
    flags = [key for key, argument in schema.items() if not argument.positional]
    flags += more_flags
    is_run = "network" in parameters
    for key in sorted(set(keys) - set(flags)):
        prefix, _, name = key.partition(".")
        of_trainer = key.removeprefix("trainer.")
        is_foreign = prefix in BELONGS_TO and prefix not in parameters
        is_set = of_trainer in SET_BY_PROGRAM and not (is_foreign and of_trainer == key)
        if is_run and is_set:
            raise ValueError(f"--{key} is set by the program: {SET_BY_PROGRAM[of_trainer]}")
        if is_run and prefix == "trainer" and name in flags:
            raise ValueError(f"--{key} has a flag of its own; give --{name}")
        if is_run and prefix == "trainer" and name in trainer_names():
            raise ValueError(f"--{key} belongs to train.py")
        # Of the other commands only explain.py has a similar flag, --picture.
        if is_run and is_foreign:
            raise ValueError(f"--{key} belongs to {BELONGS_TO[prefix]}")
        raise ValueError(unknown("setting", key, flags, spellings(flags, key)))


def trainer_names() -> Collection[str]:
    """The arguments of Lightning's Trainer."""
    from lightning.pytorch import Trainer  # here, because predict.py does not import Lightning

    return signature(Trainer).parameters


def spellings(flags: Iterable[str], key: str) -> dict[str, str]:
    """How users may write the flags that a key can mean.

    >>> spellings(["seed", "network.hidden", "optimizer.lr"], "learning_rate")["learning_rate"]
    'optimizer.lr'
    >>> spellings(["seed", "network.hidden", "optimizer.lr"], "network.hiden")
    {'network.hidden': 'network.hidden'}
    """
    names = {flag: flag for flag in flags}
    prefix = key.partition(".")[0]
    group = {flag: flag for flag in names if flag.startswith(f"{prefix}.")}
    if group and prefix != key:
        return group
    last_parts = {flag.rpartition(".")[2]: flag for flag in sorted(names, reverse=True)}
    synonyms = {name: last_parts[part] for name, part in SYNONYMS.items() if part in last_parts}
    return synonyms | last_parts | names


def check_required(settings: Iterable[str], schema: Schema) -> None:
    """Refuse settings that leave out an argument without a default."""
    given = set(settings)
    required = [key for key, argument in schema.items() if argument.default is REQUIRED]
    missing = [key for key in required if key not in given]
    if missing:
        raise ValueError(f"the following arguments are required: {', '.join(missing)}")
