"""Scripts that measure: `python -m bench.NAME` in the project's folder, results in bench/results."""
