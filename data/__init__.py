"""Tables, split and standardized: what `--data NAME` finds."""

from data.iris import Iris
from data.tabular import Table, TabularData

__all__ = ["Iris", "Table", "TabularData"]
