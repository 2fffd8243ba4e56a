"""Scripts that measure: `python -m bench.NAME` in the clone, results in bench/results."""
