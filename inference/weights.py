"""Whether weights are those of a network, told on torch's meta device, before it takes memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from cli.component import ComponentConfig, build
from cli.registry import find
from model.ensemble import Ensemble
from model.stack import buffer_attribute

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # those of --precision
META = torch.device("meta")  # tensors on it have a shape and no memory
MODULES_PER_WEIGHT = 20  # of one network: an MLP's layer of two weights is three modules
MODULES_BESIDES = 1000

Weights = dict[str, Tensor]


def check_network(
    config: ComponentConfig, num_features: int, num_classes: int, weights: Weights
) -> None:
    """Refuse weights that are not those of the network that a config describes.

    Raises:
        ValueError: They have other names, shapes or types, or the network takes something else.
    """
    check_forward(config)
    check_numbers(config, num_features)
    if find("network", config["class"]) is not Ensemble:
        make_network = build("network", config)
        check_shapes(lambda: make_network(num_features, num_classes).state_dict(), weights)
        return
    temperature = config.get("temperature", 1.0)
    if not (isinstance(temperature, float | int) and 0 < temperature < float("inf")):
        raise ValueError(f"its temperature is {temperature!r}; expected a number above 0")
    in_stack = {name.removeprefix("stack."): weight for name, weight in weights.items()}
    if not all(name.startswith("stack.") for name in weights):
        raise ValueError("its weights are not those of an Ensemble")
    check_stack(config["network"], num_features, num_classes, in_stack, config["members"])


def check_population(arguments: dict[str, Any], weights: Weights) -> None:
    """Refuse weights that are not those of the stacks of a population's members.

    Raises:
        ValueError: They are not, or a member is in no stack or in two.
    """
    members = arguments["members"]
    candidates = arguments["settings"]
    stacks = arguments["stacks"]
    indices = [index for stack in stacks for index in stack]
    if sorted(indices) != list(range(len(members))) or not all(stacks):
        raise ValueError("its stacks do not hold each member once")
    remaining = dict(weights)
    for number, stack in enumerate(stacks):
        prefix = f"stacks.{number}."
        names = [name for name in remaining if name.startswith(prefix)]
        in_stack = {name.removeprefix(prefix): remaining.pop(name) for name in names}
        candidate_indices = {members[index][0] for index in stack}
        configs = [candidates[index]["network"] for index in sorted(candidate_indices)]
        if any(config != configs[0] for config in configs):
            raise ValueError("a stack has members of several networks")
        check_stack(
            configs[0], arguments["num_features"], arguments["num_classes"], in_stack, len(stack)
        )
    if not all(name.startswith("criteria.") for name in remaining):
        raise ValueError(f"no network has its weights {min(remaining)}")


def check_stack(
    config: ComponentConfig, num_features: int, num_classes: int, weights: Weights, members: int
) -> None:
    """Refuse weights that are not those of a stack of this many members (see model/stack.py)."""
    check_forward(config)
    check_numbers(config, num_features)
    if not weights or find("network", config["class"]) is Ensemble:
        raise ValueError("its members are no networks with weights")
    for name, weight in weights.items():
        if not weight.shape or len(weight) != members:
            raise ValueError(f"its {name} is not of {members} members")
    make_network = build("network", config)
    first = {name: weight[0] for name, weight in weights.items()}
    check_shapes(lambda: stacked_weights(make_network(num_features, num_classes)), first)


def stacked_weights(network: nn.Module) -> Weights:
    """The weights that a stack of one such network would have."""
    parameters = {f"stacked.{i}": weight for i, weight in enumerate(network.parameters())}
    return parameters | {buffer_attribute(name): buffer for name, buffer in network.named_buffers()}


class ShapesOnly(TorchFunctionMode):
    """Leaves out random numbers and their scaling, for which torch's meta device takes a second."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in ("normal_", "uniform_"):  # of a tensor, or of torch.nn.init
            return args[0] if args else keywords["tensor"]
        if name in ("randn", "rand"):
            return torch.empty(*args, **keywords)
        if name in ("mul", "__mul__", "__rmul__") and not isinstance(args[1], Tensor):
            return args[0]
        return function(*args, **keywords)


def check_shapes(expected_weights: Callable[[], Weights], weights: Weights) -> None:
    """Refuse weights of other names, shapes or types than a network's own.

    Args:
        expected_weights: Builds the network, and returns its weights.
        weights: The checkpoint's.
    """
    dtypes = {weight.dtype for weight in weights.values() if weight.is_floating_point()}
    if len(dtypes) > 1 or not dtypes <= set(FLOATS):
        raise ValueError("its weights are of several types")
    try:
        with (
            limited_modules(MODULES_BESIDES + MODULES_PER_WEIGHT * len(weights)),
            META,
            ShapesOnly(),
        ):
            expected = expected_weights()
    except (RuntimeError, TypeError) as error:
        if "meta" in str(error):  # a class of one's own that looks at a value can only be built
            return
        raise
    if expected.keys() != weights.keys():
        odd = min(expected.keys() ^ weights.keys())
        raise ValueError(f"its network has other weights: {odd}")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            shapes = f"{tuple(weight.shape)}, and its network's {tuple(expected[name].shape)}"
            raise ValueError(f"its {name} is of shape {shapes}")
        dtype = expected[name].dtype
        if weight.dtype != dtype and not (weight.dtype in FLOATS and dtype in FLOATS):
            raise ValueError(f"its {name} is {weight.dtype}; expected {dtype}")


@contextmanager
def limited_modules(most: int) -> Iterator[None]:
    """Refuse to build a network of more modules and parameters than this."""
    count = 0

    def on_registration(module: nn.Module, name: str, value: Any) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError("its network has more layers than weights")

    handles = [
        registration.register_module_module_registration_hook(on_registration),
        registration.register_module_parameter_registration_hook(on_registration),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_forward(config: ComponentConfig) -> None:
    """Refuse a class that is not called with one tensor, such as torch's Transformer."""
    cls = find("network", config["class"])
    forward: Any = cls.forward  # type: ignore[attr-defined]
    _, *parameters = signature(forward).parameters.values()
    required = [
        parameter.name
        for parameter in parameters
        if parameter.default is Parameter.empty and parameter.kind < Parameter.VAR_POSITIONAL
    ]
    if len(required) > 1:
        names = ", ".join(required)
        raise ValueError(f"its network, {config['class']}, is called with {names}, not with rows")


def check_numbers(config: ComponentConfig, num_features: int) -> None:
    """Refuse indices of features to embed that no feature has."""
    numbers = config.get("numbers", [])
    is_index = [type(number) is int and 0 <= number < num_features for number in numbers]
    if not all(is_index) or len(set(numbers)) != len(numbers):
        raise ValueError("the features that its network embeds")
