"""Files made to harm who reads them: configs and checkpoints by name, and the price of a refusal.

Each value is a function that makes the file's bytes. `attempt` reads one in a process of its own.
"""

import copy
import os
import pickle
import resource
import struct
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"

LAUGHS = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefg")]
FLOW_LAUGHS = ", ".join(f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi"))
CHAIN = [f"a{i + 1}: &a{i + 1} [*a{i}]" for i in range(190)]

CONFIGS: dict[str, Callable[[], str]] = {
    "anchors that double": lambda: "\n".join(["a: &a [x, x, x]", *LAUGHS]),
    "a chain of anchors": lambda: "\n".join(["a0: &a0 [x]", *CHAIN, "log_dir: *a190"]),
    "an anchor inside of itself": lambda: "a: &a [*a]",
    "merge keys": lambda: "a: &a {seed: 1}\nnetwork:\n  <<: *a",
    "50 MB list": lambda: "network: {hidden: [" + "1, " * 16_000_000 + "1]}",
    "many values": lambda: "network: {hidden: [" + "1, " * 300_000 + "1]}",
    "many keys": lambda: "\n".join(f"key{i}: 1" for i in range(15_000)),
    "one text of 50 MB": lambda: "log_dir: " + "a" * 50_000_000,
    "comments of 50 MB": lambda: "# comment\n" * 5_000_000,
    "3,000 levels of lists": lambda: "network: {hidden: " + "[" * 3000 + "]" * 3000 + "}",
    "3,000 levels of mappings": lambda: "a: " + "{a: " * 3000 + "1" + "}" * 3000,
    "levels of dashes": lambda: "- " * 30_000 + "1",
    "levels of question marks": lambda: "? " * 30_000 + "1",
    "levels of indentation": lambda: "".join(" " * i + "a:\n" for i in range(1000)),
    "levels in a text": lambda: (
        f"data: {{class: Table, path: t.csv, target: y, ignore: '{'[' * 3000 + ']' * 3000}'}}"
    ),
    "anchors in a text": lambda: (
        f"data: {{class: Table, path: t.csv, target: y, ignore: '[&a [x, x], {FLOW_LAUGHS}]'}}"
    ),
    "a key of 100,000 characters": lambda: "? " + "a" * 100_000 + "\n: 1",
    "a number as a key": lambda: "1: 2",
    "null as a key": lambda: "network: {null: 2}",
    "true as a key": lambda: "trainer: {true: 3}",
    "a list as a key": lambda: "network: {? [a, b] : 1}",
    "a key twice": lambda: "seed: 1\nseed: 2",
    "a date": lambda: "network: {hidden: 2024-12-31}",
    "bytes": lambda: "log_dir: !!binary aGVsbG8=",
    "a set": lambda: "log_dir: !!set {a, b}",
    "an object": lambda: "log_dir: !!python/object/apply:os.system [touch run]",
    "a module": lambda: "network: !!python/name:antigravity.fly",
    "no number": lambda: "network: {hidden: [0b_]}",
    "a config in a config": lambda: "config: other.yaml",
    "a switch": lambda: "print_config: true",
    "two documents": lambda: "--- 1\n--- 2",
    "an escape sequence": lambda: '"\\e[31mred": 1',
    "a line break in a key": lambda: '"seed\\nerror: fine": 1',
    "control characters": lambda: "log_dir: \x1b[2J",
    "another encoding": lambda: "\udcff\udcfe",
    "nothing": lambda: "",
}


# Checkpoints: what is changed in tests/golden/best_2.ckpt, options_3.ckpt or population_3.ckpt.

Content = dict[str, Any]
Change = Callable[[Content], None]


def settings(**arguments: Any) -> Change:
    """Other arguments of the network."""
    return lambda content: content["hyper_parameters"]["network"].update(arguments)


def described(**entries: Any) -> Change:
    """Other entries of the table's description; a function changes an entry."""

    def change(content: Content) -> None:
        table = content["Table"]
        for name, entry in entries.items():
            table[name] = entry(table[name]) if callable(entry) else entry

    return change


def weighed(make: Callable[[Tensor], Any]) -> Change:
    """Other weights."""

    def change(content: Content) -> None:
        for name, weight in content["state_dict"].items():
            content["state_dict"][name] = make(weight)

    return change


def network(**config: Any) -> Change:
    """Another network."""
    return lambda content: content["hyper_parameters"].update(network=config)


def hyper(**entries: Any) -> Change:
    """Other hyperparameters."""
    return lambda content: content["hyper_parameters"].update(entries)


def beside(make: Callable[[], Any]) -> Change:
    """A further entry of the checkpoint."""
    return lambda content: content.update(callbacks=make())


def doubled(levels: int, pair: Callable[[Any, Any], Any]) -> Any:
    """2^levels values that take `levels` objects."""
    value = pair("a", "b")
    for _ in range(levels):
        value = pair(value, value)
    return value


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def swapped(names: list[str]) -> list[str]:
    """The first two names in the other order."""
    return [names[1], names[0], *names[2:]]


def first_is(value: float) -> Callable[[Tensor], Tensor]:
    """A tensor whose first element is another value."""

    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[0] = value
        return changed

    return change


class Call:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Key:
    """An object that is unpickled as a dictionary with this key, and is not hashed before."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __reduce__(self) -> Any:
        return OrderedDict, (), None, None, iter([(self.key, 1)])


WIDE = torch.zeros(1).expand(10**8, 6)

OPTIONS: dict[str, Change] = {
    "a layer of 10^8 units": settings(hidden=[10**8]),
    "a layer of 10^18 units": settings(hidden=[10**18]),
    "layers of 10^8 and 10^18 units": settings(hidden=[10**8, 10**18]),
    "30,000 layers": settings(hidden=[1] * 30_000),
    "a width that is text": settings(hidden="wide"),
    "a width that is a fraction": settings(hidden=[5.5, 4]),
    "dropout that is not a number": settings(dropout=float("nan")),
    "an unknown activation": settings(activation="Bomb"),
    "an activation with arguments": settings(activation="MultiheadAttention"),
    "an unknown argument": settings(bomb=1),
    "an embedding of 10^9 units": settings(embedding=10**9),
    "numbers that no feature has": settings(numbers=[-1], embedding=1),
    "a Transformer": network(**{"class": "Transformer"}),
    "a Transformer of 10^6 layers": network(
        **{"class": "Transformer", "num_encoder_layers": 10**6}
    ),
    "an LSTM of 10^6 layers": network(**{"class": "LSTM", "num_layers": 10**6}),
    "a layer that pads": network(**{"class": "ConstantPad1d"}),
    "a layer without weights": network(**{"class": "Identity"}),
    "an Ensemble of 10^9 members": network(
        **{"class": "Ensemble", "network": {"class": "Identity"}, "members": 10**9}
    ),
    "an Ensemble inside of an Ensemble": network(
        **{
            "class": "Ensemble",
            "members": 1,
            "network": {"class": "Ensemble", "members": 10**9, "network": {"class": "Identity"}},
        }
    ),
    "a network without a class": network(hidden=[4]),
    "a network that is text": lambda content: content["hyper_parameters"].update(network="MLP"),
    "a module of Python": network(**{"class": "antigravity.fly"}),
    "more classes than names": hyper(num_classes=10**9),
    "more features than names": hyper(num_features=10**9),
    "10^6 class names": described(class_names=[str(i) for i in range(10**6)]),
    "a class name of 50 MB": described(class_names=["a" * 50_000_000, "b", "c"]),
    "class names that are numbers": described(class_names=[1, 2, 3]),
    "class names that are lists": described(class_names=[["a"], ["b"], ["c"]]),
    "columns in another order": described(column_names=swapped),
    "features in another order": described(feature_names=swapped),
    "categories of other columns": described(categories={"size (cm)": ["1", "2", "3"]}),
    "categories in another order": described(
        categories=lambda categories: {"colour": swapped(categories["colour"])}
    ),
    "a column that is not there": described(source=first_is(7)),
    "a column before the first": described(source=first_is(-1)),
    "columns as fractions": described(source=lambda source: source.double()),
    "a category that is not there": described(code=lambda code: code + 9),
    "a scale of 0": described(scale=first_is(0.0)),
    "a scale below 0": described(scale=first_is(-1.0)),
    "a scale that is not a number": described(scale=first_is(float("nan"))),
    "a mean that is infinite": described(mean=first_is(float("inf"))),
    "a filling that is not a number": described(fill=first_is(float("nan"))),
    "statistics of one row too many": described(mean=lambda mean: mean.unsqueeze(0)),
    "statistics in two dimensions": described(scale=lambda scale: scale.expand(6, 6).clone()),
    "statistics in whole numbers": described(mean=lambda mean: mean.long()),
    "statistics that are lists": described(mean=lambda mean: mean.tolist()),
    "a limit of 0": described(limit=torch.tensor(0.0, dtype=torch.float64)),
    "a limit below 0": described(limit=torch.tensor(-3.0, dtype=torch.float64)),
    "a cycle that is none": described(period=first_is(3.0)),
    "a type of labels that is none": described(label_type=["int"]),
    "class names that are no numbers": described(label_type="int"),
    "class names that no file can hold": described(class_names=["\ud800", "b", "c"]),
    "a target that no file can hold": described(target="\ud800"),
    "a form of dates that is none": described(dates={"size (cm)": "%Q" * 1000}),
    "a reading that is none": described(reading={"decimal": "x"}),
    "weights in whole numbers": weighed(lambda weight: weight.long()),
    "weights of several types": lambda content: content["state_dict"].update(
        {"network.0.bias": content["state_dict"]["network.0.bias"].half()}
    ),
    "weights in eight bits": weighed(lambda weight: weight.to(torch.float8_e4m3fn)),
    "weights that are not a number": weighed(lambda weight: weight * float("nan")),
    "weights that are lists": weighed(lambda weight: weight.tolist()),
    "weights that are sparse": weighed(lambda weight: weight.to_sparse()),
    "weights without memory": weighed(lambda weight: weight.to("meta")),
    "weights of 10^8 rows that are one": lambda content: (
        settings(hidden=[10**8, 4])(content),
        content["state_dict"].update({"network.0.weight": WIDE}),
    ),
    "weights without a name": lambda content: content["state_dict"].update({7: torch.zeros(1)}),
    "a weight too many": lambda content: content["state_dict"].update(
        {"network.9.weight": torch.zeros(1)}
    ),
    "a weight too few": lambda content: content["state_dict"].pop("network.0.bias"),
    "3,000 levels of lists": beside(lambda: nested(3000)),
    "a list of 2^30 values": beside(lambda: doubled(30, lambda a, b: [a, b])),
    "a key of 2^60 values": beside(lambda: Key(doubled(60, lambda a, b: (a, b)))),
    "a memory of 10^12 bytes": beside(lambda: Call(bytearray, 10**12)),
    "a tensor of 10^12 numbers": beside(lambda: Call(torch.FloatTensor, 10**12)),
    "a storage of 10^12 bytes": beside(lambda: Call(torch.UntypedStorage, 10**12)),
    "a command": beside(lambda: Call(os.system, "touch marker")),
}

ENSEMBLE: dict[str, Change] = {
    "10^9 members": settings(members=10**9),
    "no members": settings(members=0),
    "members that are text": settings(members="8"),
    "a temperature of 0": settings(temperature=0.0),
    "a temperature below 0": settings(temperature=-1.0),
    "a temperature that is not a number": settings(temperature=float("nan")),
    "members of 10^8 units": settings(network={"class": "MLP", "hidden": [10**8]}),
}

POPULATION: dict[str, Change] = {
    "a stack too many": hyper(stacks=[[0, 1, 2], [0, 1, 2]]),
    "a member that is not there": hyper(stacks=[[0, 1, 7]]),
    "an empty stack": hyper(stacks=[[0, 1, 2], []]),
    "a candidate that is not there": hyper(members=[[5, 0, 0], [5, 1, 1], [5, 2, 2]]),
    "candidates that are text": hyper(settings="MLP"),
    "members that are a number": hyper(members=3),
    "a loss that is a module of Python": lambda content: content["hyper_parameters"]["settings"][
        0
    ].update(loss={"class": "antigravity.fly"}),
}

CHECKPOINTS = {
    f"{kind}: {name}": (f"{kind}_3.ckpt", change)
    for kind, changes in {"options": OPTIONS, "best": ENSEMBLE, "population": POPULATION}.items()
    for name, change in changes.items()
}


def compressed(archive: zipfile.ZipFile, entries: dict[str, bytes]) -> None:
    """A bomb: 50 MB that take 50 kB."""
    for name, data in entries.items():
        archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    archive.writestr("options_3/data/99", bytes(50_000_000), zipfile.ZIP_DEFLATED)


def with_two_pickles(archive: zipfile.ZipFile, entries: dict[str, bytes]) -> None:
    """A name that torch takes for that of the pickle, in front of it."""
    archive.writestr("options_3/DATA.PKL", b"cposix\nsystem\n(X\x0c\x00\x00\x00touch markertR.")
    for name, data in entries.items():
        archive.writestr(name, data)


def overlapping(archive: zipfile.ZipFile, entries: dict[str, bytes]) -> None:
    """An entry that is listed many times under other names."""
    for name, data in entries.items():
        archive.writestr(name, data)
    for index in range(100):
        entry = copy.copy(archive.infolist()[0])
        entry.filename = f"options_3/data/{100 + index}"
        archive.filelist.append(entry)


ARCHIVES = {
    "a compressed bomb": compressed,
    "two pickles": with_two_pickles,
    "an entry listed 100 times": overlapping,
}


def write_archive(name: str, path: str) -> None:
    """Write a hostile zip archive by its name in ARCHIVES."""
    with zipfile.ZipFile(GOLDEN / "options_3.ckpt") as golden:
        entries = {entry: golden.read(entry) for entry in golden.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        ARCHIVES[name](archive, entries)


def write_checkpoint(name: str, path: str) -> None:
    """Write a hostile checkpoint by its name in CHECKPOINTS or ARCHIVES."""
    if name in ARCHIVES:
        write_archive(name, path)
        return
    golden, change = CHECKPOINTS[name]
    content = torch.load(GOLDEN / golden, weights_only=True)
    change(content)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # for what is nested
    try:
        torch.save(content, path)
    finally:
        sys.setrecursionlimit(limit)


def png(width: int, height: int) -> bytes:
    """The beginning of a grey PNG of this size, whose pixels are all black."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        checksum = zlib.crc32(kind + data)
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))
    return b"".join(parts)


IMAGES: dict[str, Callable[[], bytes]] = {
    "400 megapixels": lambda: png(20_000, 20_000),
    "100 megapixels": lambda: png(10_000, 10_000),
    "no pixels": lambda: png(0, 0),
    "a cut file": lambda: png(2000, 2000),
    "a cut header": lambda: png(10, 10)[:20],
    "nothing": lambda: b"",
    "no image": lambda: b"<html>",
}


class Price(NamedTuple):
    """What an attempt took: the processor's seconds, MiB beyond those before, its refusal."""

    seconds: float
    mebibytes: float
    error: str  # the kind of error and its message; empty if there was none


def attempt(action: Callable[[], object]) -> Price:
    """Call a function in a forked process, whose time and memory do not change this one's."""
    reading, writing = os.pipe()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if not child:
        error = ""
        try:
            action()
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with os.fdopen(writing, "wb") as sink:
            pickle.dump((usage.ru_utime + usage.ru_stime, usage.ru_maxrss, error), sink)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as source:
        answer = source.read()
    os.waitpid(child, 0)
    if not answer:
        return Price(0.0, 0.0, "it was killed")
    seconds, peak, error = pickle.loads(answer)
    return Price(seconds, max(0, peak - before) / 1024, error)
