"""Initial weights of many networks: those that each seed gives alone, drawn into one tensor."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.utils._python_dispatch import TorchDispatchMode

CHUNK = 500  # networks whose tensors exist at once

State = tuple[dict[str, Tensor], dict[str, Tensor]]  # parameters and buffers by name


class Draw(NamedTuple):
    """An operation that changes a whole parameter in place, and its arguments: numbers."""

    operation: Callable[..., Tensor]
    pointer: int
    numel: int
    arguments: tuple[Any, ...]


class Recorder(TorchDispatchMode):
    """Records how a network's constructor fills its parameters.

    `draws` are the in-place operations with nothing but numbers as arguments, in their order;
    `is_whole` is whether they include all random ones.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws: list[Draw] = []
        self.is_whole = True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        is_random = torch.Tag.nondeterministic_seeded in func.tags
        is_in_place = func._schema.name.endswith("_")
        if is_in_place and not kwargs and not any(torch.is_tensor(value) for value in args[1:]):
            self.draws.append(Draw(func, args[0].data_ptr(), args[0].numel(), args[1:]))
        elif is_random:
            self.is_whole = False
        return func(*args, **(kwargs or {}))


def stacked_networks(
    make_network: Callable[[], nn.Module], seeds: Sequence[int]
) -> tuple[nn.Module, State]:
    """A network, and the parameters and buffers of one network for each seed, (seeds, *shape).

    A constructor takes 200 us, most of it not for numbers. So the draws of the first network are
    repeated for the other seeds, if they then give the last two seeds' networks bit by bit.
    """
    recorder = Recorder()
    torch.default_generator.manual_seed(seeds[0])
    with recorder:
        network = make_network()
    states = repeated(network, recorder, seeds) if len(seeds) > 3 else None
    if states is not None and agrees(states, make_network, seeds[-2:]):
        return network, states
    return network, stack_module_state([network, *map(seeded(make_network), seeds[1:])])


def seeded(make_network: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """A function from a seed to its network."""

    def make(seed: int) -> nn.Module:
        # Not torch.manual_seed, which takes 95 us to seed the other devices too.
        torch.default_generator.manual_seed(seed)
        return make_network()

    return make


def repeated(network: nn.Module, recorder: Recorder, seeds: Sequence[int]) -> State | None:
    """The recorded draws with each seed; None if they are not all of a network's parameters."""
    with torch.no_grad():
        parameters = {
            name: parameter.expand(len(seeds), *parameter.shape).clone()
            for name, parameter in network.named_parameters()
        }
    names = {parameter.data_ptr(): name for name, parameter in network.named_parameters()}
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    draws = [draw for draw in recorder.draws if draw.pointer in names]
    fits = all(sizes[names[draw.pointer]] == draw.numel for draw in draws)
    if not (draws and fits and recorder.is_whole):
        return None
    calls = [(draw.operation, draw.arguments) for draw in draws]
    stacks = [parameters[names[draw.pointer]] for draw in draws]
    # In chunks: Python's garbage collector goes through all tensors that exist at once.
    for chunk in range(0, len(seeds), CHUNK):
        members = slice(chunk, chunk + CHUNK)
        views = zip(*(stacked[members].unbind() for stacked in stacks), strict=True)
        for seed, tensors in zip(seeds[members], views, strict=True):
            torch.default_generator.manual_seed(seed)
            for (operation, arguments), tensor in zip(calls, tensors, strict=True):
                operation(tensor, *arguments)
    buffers = {
        name: buffer.expand(len(seeds), *buffer.shape).clone()
        for name, buffer in network.named_buffers()
    }
    return parameters, buffers


def agrees(states: State, make_network: Callable[[], nn.Module], seeds: Sequence[int]) -> bool:
    """Whether the last networks of a stack are those that their seeds give alone."""
    parameters, buffers = states
    stacked = parameters | buffers
    for i, network in enumerate(map(seeded(make_network), seeds), start=-len(seeds)):
        alone: dict[str, Tensor] = {**dict(network.named_parameters())}
        alone |= dict(network.named_buffers())
        if stacked.keys() != alone.keys():
            return False
        if not all(torch.equal(stacked[name][i], tensor) for name, tensor in alone.items()):
            return False
    return True
