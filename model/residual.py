"""A residual network: many blocks, as wide as memory holds."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.hidden import check_activation, check_depth, make_activation


class ResidualMLP(nn.Sequential):
    """Residual multilayer perceptron: blocks x + Linear(activation(Linear(LayerNorm(x)))).

    Each block normalizes what it reads and adds to it, so the gradient reaches the first block
    through sums alone, and many blocks train as well as few. Rows do not mix.

    Initial weights are those of nn.Linear, uniform within 1 / sqrt(inputs), biases too. Those of
    the second layer of each block are divided by sqrt(blocks): however many blocks there are, their
    sum starts as large as a single one's.

    Shapes: standardized features (rows, num_features) -> logits (rows, num_classes).
    Source: the blocks are those of Gorishniy et al. (2021), section 3.2, with the normalization of
    Xiong et al. (2020), figure 1 (b), and the initialisation of Radford et al. (2019), section 2.3.

    >>> ResidualMLP(4, 3, width=16, blocks=2)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])

    Args:
        width: Numbers that each block reads and adds to.
        blocks: Number of blocks; 0 makes a linear classifier of normalized numbers.
        expansion: Width of a block's hidden layer, as a multiple of width.
        activation: Activation of each hidden layer: any of torch.nn by name.
        dropout: Share of hidden units dropped in each training step.
        checkpointing: Keep only what each block reads for the backward pass, which computes the
            rest again: less memory, about a third more time.

    Raises:
        ValueError: A width or expansion below 1, a number of blocks that is negative or too large,
            an unknown activation, dropout outside [0, 1).
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        width: int = 256,
        blocks: int = 4,
        expansion: int = 2,
        activation: str = "SiLU",
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; give 1 or more")
        if blocks < 0:
            raise ValueError(f"blocks is {blocks}; give 0 or more")
        check_depth("blocks", blocks)
        if expansion < 1:
            raise ValueError(f"expansion is {expansion}; give 1 or more")
        check_activation(activation)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; give a share from 0 to below 1")

        self.append(nn.Linear(num_features, width))
        for _ in range(blocks):
            block = Block(width, expansion * width, activation, dropout, checkpointing)
            with torch.no_grad():
                block.last.weight.mul_(blocks**-0.5)
                block.last.bias.mul_(blocks**-0.5)
            self.append(block)
        self.append(nn.LayerNorm(width))
        self.append(nn.Linear(width, num_classes))


class Block(nn.Module):
    """A block of a ResidualMLP: (rows, width) -> (rows, width).

    >>> Block(8, 16, "ReLU")(torch.zeros(2, 8)).shape
    torch.Size([2, 8])

    Args:
        width: Numbers that it reads and adds to.
        hidden: Width of its hidden layer.
        activation: Activation of the hidden layer: any of torch.nn by name.
        dropout: Share of hidden units dropped in each training step.
        checkpointing: Keep only the input for the backward pass.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, hidden)
        self.activation = make_activation(activation)  # one module a block, for hooks
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(hidden, width)
        self.checkpointing = checkpointing

    def forward(self, rows: Tensor) -> Tensor:
        if self.checkpointing and self.training:
            change: Tensor = checkpoint(self.change, rows, use_reentrant=False)
            return rows + change
        return rows + self.change(rows)

    def change(self, rows: Tensor) -> Tensor:
        """What the block adds to the rows."""
        hidden = self.activation(self.first(self.norm(rows)))
        change: Tensor = self.last(self.dropout(hidden))
        return change
