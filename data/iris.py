"""Fisher's Iris: 150 flowers, 4 measurements in cm, 3 species."""

from sklearn.datasets import load_iris

from data.tabular import RawTable, TabularData


class Iris(TabularData):
    """Fisher's Iris (1936), from scikit-learn's own copy: nothing is downloaded.

    >>> iris = Iris()
    >>> iris.setup()
    >>> iris.num_features, iris.num_classes, iris.feature_names[0], iris.class_names[0]
    (4, 3, 'sepal length (cm)', 'setosa')
    """

    target = "species"

    def load(self) -> RawTable:
        iris = load_iris()
        return RawTable(
            features=iris.data,
            targets=iris.target,
            column_names=list(iris.feature_names),
            class_names=[str(name) for name in iris.target_names],
        )
