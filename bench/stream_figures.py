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
        "An epoch of a million rows runs at "
        + " and ".join(
            f"{found['ratio']:.2f} times (files with {groups})"
            for groups, found in result["speed"].items()
        )
        + f" the speed of a table in memory, medians of {result['n']}, after a start of "
        + " and ".join(
            f"{found['start, in epochs in memory']:.1f}" for found in result["speed"].values()
        )
        + " such epochs.",
        measured(result, f"{result['n']} runs of each accuracy and speed"),
    )


def stream_memory() -> str:
    """Peak memory against the number of rows, and a run in less memory than its rows take."""
    runs = read("streaming")["memory"]
    rows = [
        [name, f"{run['features, MiB']:,}", f"{run['peak, MiB']:,}"] for name, run in runs.items()
    ]
    largest = list(runs.values())[-1]
    limit = largest["limit of data (RLIMIT_DATA), MiB"]
    loss = "the same" if largest["the same loss"] else "another"
    return paragraphs(
        table(["a folder of", "features in float32, MiB", "peak of train.py, MiB"], rows),
        f"With {limit:,} MiB that it may allocate (`prlimit --data`), of which importing the "
        f"libraries takes 1,110, the largest run ends with {loss} test loss.",
    )


def stream_libraries() -> str:
    """Rows per second of each library, in two sizes of row groups."""
    runs = read("streaming")["libraries"]
    first = next(iter(runs.values()))
    rows = [
        [name, *(f"{found[name]['rows per second']:,}" for found in runs.values())]
        for name in first
    ]
    return table(["rows per second", *runs], rows)
