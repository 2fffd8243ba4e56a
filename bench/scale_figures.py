"""The figures of bench/results/scale.json as Markdown, and its plot."""

from pathlib import Path
from typing import Any

from bench.markdown import measured, paragraphs, read, table

OTHER_ENDS = "seconds until the other ends"
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "scale.png"


def scale_speed() -> str:
    """Rows per second of this project and of others."""
    result = read("scale")
    sizes = list(result["speed"])
    names = list(result["speed"][sizes[0]])
    header = ["rows per second (this project's ratio)", *(f"{int(size):,} rows" for size in sizes)]
    rows = [[name, *(rate(result["speed"][size][name]) for size in sizes)] for name in names]
    return paragraphs(table(header, rows), measured(result, f"medians of {result['n']}"))


def rate(row: dict[str, Any]) -> str:
    return f"{row['rows per second']:,} ({row['ratio']:.2f})"


def scale_memory() -> str:
    """Peak memory beyond a small table's, relative to the float32 features."""
    result = read("scale")
    rows = [
        [name, f"{row['features, MiB']:,}", f"{row['reading']:.2f}", f"{row['training']:.2f}"]
        for name, row in result["memory"].items()
    ]
    header = ["`train.py --data Table`", "float32 features, MiB", "reading", "training"]
    population = result["population"]
    return paragraphs(
        table(header, rows),
        f"`evaluate.py` with {population['networks']} networks on {population['rows']:,} of these "
        f"rows takes {population['MiB']:,} MiB at most, libraries included.",
    )


def scale_growth() -> str:
    """The exponents of time and memory."""
    result = read("scale")
    rows = []
    for name, row in result["growth"].items():
        sizes = f"{row['sizes'][0]:,} to {row['sizes'][-1]:,}"
        exponents = [f"{row[f'exponent of {cost}']:.2f}" for cost in ("time", "memory")]
        rows.append([name, sizes, *exponents])
    return table(["size", "varied", "exponent of time", "exponent of memory"], rows)


def scale_cross_validation() -> str:
    """evaluate.py beside cross_val_score."""
    result = read("scale")
    rows = []
    for epochs, found in result["cross_validation"].items():
        for name in ("evaluate.py", "cross_val_score"):
            cost = found[name]
            rows.append([f"{epochs}, {name}", f"{cost['seconds']:.1f}", f"{cost['MiB']:,}"])
    header = ["10 folds of 100,000 rows × 20 columns", "seconds", "peak MiB"]
    return table(header, rows)


def scale_processes() -> str:
    """How two processes agree with one, and what a killed one costs."""
    result = read("scale")["processes"]
    agreement = ", ".join(
        f"{row['losses']:.0e} under `{strategy}`" for strategy, row in result["agreement"].items()
    )
    same_test = all(row["the same test"] for row in result["agreement"].values())
    killed = result["a killed process"]
    worker = result["a killed worker of Ray"]
    rows = [
        ["losses of two processes, relative to one", f"within {agreement}"],
        ["their test accuracy is that of one", yes(same_test)],
        ["a process is killed: seconds until the other ends", str(killed[OTHER_ENDS])],
        ["the resumed run ends as an undisturbed one", yes(killed["the same after --resume"])],
        ["a worker of Ray is killed: the same numbers", yes(worker["the same numbers"])],
    ]
    return table(["two processes on CPUs", ""], rows)


def yes(value: bool) -> str:
    return "yes" if value else "no"


def draw(growth: dict[str, Any]) -> None:
    """docs/images/scale.png: time and memory against each size, on log axes."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(growth), figsize=(12, 5), layout="constrained")
    for column, (name, row) in enumerate(growth.items()):
        labels = [f"{size:,}" for size in row["sizes"]]
        for line, cost in enumerate(("seconds", "MiB")):
            axis = axes[line, column]
            axis.loglog(row["sizes"], row[cost], "o-", color="#1f5fa8")
            for size, value in zip(row["sizes"], row[cost], strict=True):
                axis.annotate(
                    f"{value:,}", (size, value), (0, 8), textcoords="offset points", ha="center"
                )
            axis.minorticks_off()
            axis.set_xticks(row["sizes"], labels)
            axis.set_yticks([])
            axis.set(xlabel=name if line else "", ylabel=cost if column == 0 else "")
            axis.margins(0.15, 0.25)
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGE, dpi=110)
