"""Fisher's Iris: 150 flowers, 4 measures in cm, 3 species; scikit-learn's own copy, so no network is needed."""

from sklearn.datasets import load_iris

from data.tabular import RawTable, TabularData


class Iris(TabularData):
    """Fisher's Iris (1936): 150 flowers of 3 species, 4 measures in cm.

    >>> iris = Iris()
    >>> iris.setup()
    >>> iris.num_features, iris.num_classes, iris.feature_names[0], iris.class_names[0]
    (4, 3, 'sepal length (cm)', 'setosa')
    """

    target = "species"

    def load(self) -> RawTable:
        bunch = load_iris()
        return RawTable(
            bunch.data,
            bunch.target,
            list(bunch.feature_names),
            [str(name) for name in bunch.target_names],
        )
