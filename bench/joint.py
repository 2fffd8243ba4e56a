"""One AdamW for many candidates (model/joint_adamw.py), relative to an AdamW for each of them.

Networks 4-H-3 of CANDIDATES learning rates on the folds of Iris, a number of them for each rate.
Both ways take turns in one process; the figures are medians of the ratio of a round. From the
number of elements on at which it falls below 1, candidates are better not joined: JOINT_ELEMENTS in
model/stack_optimizers.py.

python -m bench.joint           # 4 minutes on 2 cores
python -m bench.joint --small   # seconds; writes nothing, shows that it runs
"""

import json
import os
import platform
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.measure import processor, quiet_trainer
from bench.population import make_folds
from cli.command import quiet
from model import stack_optimizers
from model.member import FoldData, Member
from model.population import Population
from training.fast import skip_driver_lookup

RESULT = Path(__file__).with_name("results") / "joint.json"
SMALL = "--small" in sys.argv
EPOCHS = 2 if SMALL else 30
ROUNDS = 1 if SMALL else 5
CANDIDATES = 4 if SMALL else 200
WIDTHS = [4] if SMALL else [16, 32, 128]
NETWORKS = [2] if SMALL else [1, 5, 20]  # of each candidate
NEVER, ALWAYS = 0, 2**62


def seconds(width: int, networks: int, limit: int) -> float:
    """Seconds of a fit in which candidates of fewer elements than `limit` share an optimizer."""
    stack_optimizers.JOINT_ELEMENTS = limit
    folds = [FoldData(splits) for splits in make_folds(2)]
    candidates = [
        {
            "network": {"class": "MLP", "hidden": [width]},
            "loss": {"class": "CrossEntropyLoss"},
            "optimizer": {"class": "AdamW", "lr": rate, "fused": True},
            "schedule": None,
        }
        for rate in np.geomspace(0.001, 0.1, CANDIDATES).tolist()
    ]
    members = [
        Member(candidate, i % len(folds), i)
        for candidate in range(CANDIDATES)
        for i in range(networks)
    ]
    trainer = quiet_trainer(EPOCHS)
    population = Population(4, 3, candidates, members, folds)
    start = time.perf_counter()
    trainer.fit(population)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, write bench/results/joint.json."""
    quiet()
    skip_driver_lookup()
    seconds(4, 1, NEVER)  # warm up
    rows: list[dict[str, Any]] = []
    for width in WIDTHS:
        for networks in NETWORKS:
            turns = [
                (seconds(width, networks, NEVER), seconds(width, networks, ALWAYS))
                for _ in range(ROUNDS)
            ]
            row = {
                "width": width,
                "networks of a candidate": networks,
                "elements": networks * (4 * width + width + 3 * width + 3),
                "seconds, one each": round(median(turn[0] for turn in turns), 2),
                "seconds, joint": round(median(turn[1] for turn in turns), 2),
                "ratio": round(median(one / joint for one, joint in turns), 2),
            }
            rows.append(row)
            print(row, flush=True)
    if SMALL:
        return
    result = {
        "command": "python -m bench.joint",
        "hardware": {"cpus": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "n": ROUNDS,
        "epochs": EPOCHS,
        "candidates": CANDIDATES,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
