"""Tables, split and standardized: what `--data NAME` finds."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.images import Images
    from data.iris import Iris
    from data.table import Table
    from data.tabular import RawTable, TabularData

__all__ = ["Images", "Iris", "RawTable", "Table", "TabularData"]
HOMES = {"Images": "data.images", "Iris": "data.iris", "Table": "data.table"}
HOMES |= dict.fromkeys(("RawTable", "TabularData"), "data.tabular")


def __getattr__(name: str) -> Any:  # when asked for: predict.py needs neither Lightning nor its three seconds
    if name not in HOMES:
        raise AttributeError(f"module 'data' has no {name}")
    return getattr(import_module(HOMES[name]), name)
