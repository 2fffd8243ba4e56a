"""The project under one name, for scripts and notebooks outside of the clone.

    from lightning_iris import load, train

In the clone the modules import each other as `data.iris`, `model.networks` and so on. Installed,
the same files are modules of this package, because nobody wants top-level packages called `data`
and `model` in their environment. For that, the loader below reads an import in one of them, such as
`from data.iris import Iris`, as one from `lightning_iris.data.iris`. It changes the parsed source,
so line numbers and tracebacks are right. Relative imports between the packages would need no
loader, but `python train.py`, whose folder is no package, could not run them.
"""

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

# Where the modules are: in a wheel in this folder, the commands in one below it (pyproject.toml);
# in the clone beside this folder.
HERE = Path(__file__).parent
COMMANDS = HERE / "commands"
FOLDERS = [str(COMMANDS), str(HERE)]
if not COMMANDS.exists():
    FOLDERS = [str(HERE.parent)]
MODULES = {
    *("cli", "data", "model", "evaluation", "training", "inference"),
    *("train", "evaluate", "predict", "explain", "export"),
}


class Finder(MetaPathFinder):
    """Finds the modules of this package, and has them loaded by `Loader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __name__ or name.partition(".")[0] not in MODULES:
            return None
        spec = PathFinder.find_spec(fullname, FOLDERS if name in MODULES else path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(SourceFileLoader):
    """Compiles a module, with its imports of the clone's modules made imports of this package."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and is_of_the_clone(node):
                node.module = f"{__name__}.{node.module}"
        return compile(tree, path, "exec", dont_inherit=True)  # never the clone's cached bytecode


def is_of_the_clone(node: ast.ImportFrom) -> bool:
    """Whether an import is of one of the modules, by the name that it has in the clone."""
    return node.level == 0 and str(node.module).partition(".")[0] in MODULES


if not any(type(finder).__module__ == __name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, Finder())

from lightning_iris.cli.command import quiet  # noqa: E402
from lightning_iris.data.iris import Iris  # noqa: E402
from lightning_iris.data.table import Table  # noqa: E402
from lightning_iris.data.tabular import RawTable, TabularData  # noqa: E402
from lightning_iris.evaluate import evaluate  # noqa: E402
from lightning_iris.explain import explain  # noqa: E402
from lightning_iris.export import export  # noqa: E402
from lightning_iris.inference.predictor import load  # noqa: E402
from lightning_iris.model.classifier import Classifier  # noqa: E402
from lightning_iris.model.networks import MLP  # noqa: E402
from lightning_iris.predict import predict  # noqa: E402
from lightning_iris.train import train  # noqa: E402
from lightning_iris.training.estimator import NetworkClassifier  # noqa: E402

__all__ = [
    "MLP",
    "Classifier",
    "Iris",
    "NetworkClassifier",
    "RawTable",
    "Table",
    "TabularData",
    "evaluate",
    "explain",
    "export",
    "load",
    "predict",
    "quiet",
    "train",
]
