"""The figures of bench/results/streaming.json as Markdown."""

from statistics import mean

from bench.markdown import measured, paragraphs, read, table


def stream_order() -> str:
    """How far an epoch's order is from a full shuffle, and what that costs."""
    result = read("streaming")
    orders = [
        [name, f"{found['rank correlation']:.3f}", f"{found['distance']:.2f}",
         f"{found['class spread']:.1f}"]
        for name, found in result["order"].items()
    ]  # fmt: skip
    costs = [
        [name, f"{mean(found['accuracy']):.4f}", f"{mean(found['log_loss']):.4f}"]
        for name, found in result["accuracy"].items()
    ]
    return paragraphs(
        table(
            ["order of a million rows", "rank correlation", "distance", "class spread"],
            orders,
        ),
        "Rank correlation: of a row's place in the epoch and in the folder. Distance: how far "
        "apart in the folder rows are that follow each other, relative to a full shuffle. Class "
        "spread: in a folder sorted by ten classes, the standard deviation of a class's share of a "
        "batch of 4,096, relative to a full shuffle. What that costs, of half a million such rows "
        "after two epochs:",
        table(["folder", "test accuracy", "test log-loss"], costs),
        f"An epoch of a million rows runs at {result['speed']['ratio']:.2f} times the speed of a "
        "table in memory, the median of three, on a machine that other work shared.",
        measured(result, f"{result['n']} runs of each accuracy and speed"),
    )
