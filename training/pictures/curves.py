"""Precision-recall curves."""

from training.pictures.base import Picture
from training.pictures.view import MAX_TAGS, View


class PrecisionRecall(Picture):
    """Each class against all others, for the tab PR Curves."""

    def draw(self, view: View) -> None:
        probabilities, targets = view.probabilities()
        for i, name in enumerate(view.class_names[:MAX_TAGS]):
            # The index tells names apart that TensorBoard writes alike, such as < and >.
            tag = f"PrecisionRecall/{i}_{name}"
            view.writer.add_pr_curve(tag, targets == i, probabilities[:, i], view.step)
