"""What a checkpoint may hold: plain data and tensors whose size the file's own size bounds.

torch.load(weights_only=True) runs no code, but a small file can still ask it for much memory or
time: a tensor of 10^9 elements that are one number, a call of bytearray(10^10), a key whose hash is
that of 2^40 texts.
"""

import pickletools
import re
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

MAX_PICKLE_BYTES = 2**24
MAX_OPERATIONS = 1_000_000  # of a pickle; torch takes 0.7 s for them
MAX_VALUES = 1_000_000
MAX_DEPTH = 40
MAX_EXPANSION = 16  # how often a stored number may occur, as in weights that layers share

CALLABLE = re.compile(
    r"torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage|torch Size"
    r"|collections (OrderedDict|Counter)"
)
KEYS = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"}


def check_pickle(data: bytes) -> None:
    """Refuse a pickle that calls anything but what a checkpoint needs, or that is too large.

    It is followed operation by operation, as pickletools describes them, with the kind of each
    object on its stack, so that what torch would hash or call is known before it does.

    Raises:
        UnpicklingError: It calls something else.
        ValueError: It is too large, or it has a key that is neither text nor a whole number.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise ValueError(f"it holds more than {MAX_PICKLE_BYTES:,} bytes besides its weights")
    stack: list[str] = []
    memo: dict[int, str] = {}
    argument: Any
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        name = operation.name
        if count > MAX_OPERATIONS:
            raise ValueError(f"it holds more than {MAX_OPERATIONS:,} values")
        if name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MARK":
            stack.append("mark")
        elif name == "GLOBAL":
            if not CALLABLE.fullmatch(argument):
                raise UnpicklingError(f"GLOBAL {argument.replace(' ', '.')}")
            stack.append(argument.partition(" ")[0])
        elif operation.stack_before or operation.stack_after:
            taken = take(stack, operation)
            check_arguments(name, taken)
            stack.extend(kind_of(name, taken) for _ in operation.stack_after)


def take(stack: list[str], operation: pickletools.OpcodeInfo) -> list[str]:
    """Take from the stack what an operation takes, without the mark."""
    if pickletools.markobject not in operation.stack_before:
        start = len(stack) - len(operation.stack_before)
        taken = stack[start:]
        del stack[start:]
        return taken
    mark = len(stack) - 1 - stack[::-1].index("mark")
    start = mark - operation.stack_before.index(pickletools.markobject)
    taken = stack[start:mark] + stack[mark + 1 :]
    del stack[start:]
    return taken


def check_arguments(name: str, taken: list[str]) -> None:
    """Refuse an operation that would make a key of anything but text or a whole number."""
    keys = taken[1::2] if name in ("SETITEM", "SETITEMS") else []
    is_mapping = name == "REDUCE" and taken[0] == "collections"
    if (
        any(kind != "key" for kind in keys)
        or (is_mapping and taken[1] not in ("no arguments", "dictionary argument"))
        or (name == "BUILD" and taken[1] != "dictionary")
    ):
        raise ValueError("it holds a dictionary whose keys are neither text nor whole numbers")


def kind_of(name: str, taken: list[str]) -> str:
    """The kind of object that an operation leaves on the stack."""
    if name in KEYS:
        return "key"
    if name == "EMPTY_DICT":
        return "dictionary"
    if name in ("SETITEM", "SETITEMS", "BUILD", "APPEND", "APPENDS"):
        return taken[0]
    if name == "EMPTY_TUPLE":
        return "no arguments"
    if name == "TUPLE1" and taken == ["dictionary"]:
        return "dictionary argument"
    return "other"


def check_content(content: Any, file_bytes: int) -> None:
    """Refuse content that is not plain data and tensors, is nested too deeply, or is too large.

    Args:
        content: What was read.
        file_bytes: The size of its file.

    Raises:
        ValueError: It is none of these.
    """
    pending = [(content, 0)]
    values = 0
    tensor_bytes = 0
    while pending:
        value, depth = pending.pop()
        values += 1
        if values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            pending.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list | tuple):
            pending.extend((item, depth + 1) for item in value)
        elif isinstance(value, Tensor):
            check_tensor(value)
            tensor_bytes += value.numel() * value.element_size()
        elif not isinstance(value, str | bytes | int | float | None):
            raise ValueError(f"it holds a {type(value).__name__}")
    if tensor_bytes > MAX_EXPANSION * file_bytes:
        raise ValueError(f"it holds tensors of {tensor_bytes:,} bytes in {file_bytes:,}")


def check_tensor(tensor: Tensor) -> None:
    """Refuse a tensor that is not an ordinary one in memory."""
    is_ordinary = (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
    )
    if not is_ordinary:
        raise ValueError(f"it holds a tensor of another kind: {tensor.layout}, {tensor.device}")
