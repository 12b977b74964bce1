"""The table in README, made from `docs/results/benchmark_*.json`: `python -m deja_vu.report.readme_table`, or `make results`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from deja_vu.core.errors import DejaVuError, FormatError
from deja_vu.io.files import write_atomic
from deja_vu.report.scores_table import explain_better_baselines, scores_table

BEGIN = "<!-- results: made by `make results`, edit docs/results instead -->"
"""Line of README after which the table stands."""
END = "<!-- /results -->"
"""Line after the table."""


def main() -> None:
    """Write the table into README, or only check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 2 where README is not current")
    parser.add_argument("--root", type=Path, default=Path(), help="source tree (the working folder)")
    options = parser.parse_args()
    readme = options.root / "README.md"
    try:
        text = readme.read_text(encoding="utf-8")
        current = with_results(text, results_block(options.root / "docs" / "results"))
        if options.check and current != text:
            raise FormatError(f"{readme} does not show what docs/results holds. Run: make results")
        if current != text:
            write_atomic(readme, current)
    except DejaVuError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def results_block(folder: Path) -> str:
    """What stands between the markers: for each file where it was measured, a table, and what a better baseline means.

    Args:
        folder: of `benchmark_*.json`, which hold clips by name as metrics.json has them.

    Raises:
        FormatError: a file is damaged.
    """
    parts = []
    for path in sorted(folder.glob("benchmark_*.json")):
        try:
            figures = json.loads(path.read_text())
            rows = [*figures["clips"].items()]
            places = sorted({row["device"] for _, row in rows})
            commits = sorted({row["commit"] for _, row in rows})
            measured = f"{', '.join(places)}; torch {figures['versions']['torch']}; commit {', '.join(commits)}"
            table = scores_table(rows, best_only=True)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise FormatError(f"{path} is damaged ({type(error).__name__}: {error}). Restore it.") from error
        parts += [f"PSNR dB / SSIM / ST-LPIPS on held-out frames. {measured}. All figures: `docs/results/{path.name}`.\n", table]
        parts += [text for text in [explain_better_baselines(rows)] if text]
    return "\n".join(parts)


def with_results(readme: str, block: str) -> str:
    """The text of README with another block between the markers.

    Raises:
        FormatError: it does not have both markers, once each and in order.
    """
    before, begin, rest = readme.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise FormatError(f"README.md must hold the lines {BEGIN} and {END} once each.")
    return f"{before}{begin}\n{block}\n{end}{after}"


if __name__ == "__main__":
    main()
