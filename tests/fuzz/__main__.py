"""`make fuzz`: read many damaged files, and say how each reader answered."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from tests.fuzz.readers import READERS, WEIGHT
from tests.fuzz.worker import Tally, run


def main() -> int:
    """0 where every file was read or refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="how many, over all readers")
    parser.add_argument("--first", type=int, default=0, help="number of the first one of each reader")
    parser.add_argument("--reader", choices=sorted(READERS), action="append", help="only this one (may be repeated)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = options.reader or list(READERS)
    share = options.files / sum(WEIGHT.get(name, 1.0) for name in chosen)
    whole = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in chosen:
            tally = Tally()
            count = max(1, round(share * WEIGHT.get(name, 1.0)))
            run(name, READERS[name], range(options.first, options.first + count), Path(folder), tally)
            whole += tally.counts
            print(f"{name:12}" + "  ".join(f"{kind} {number}" for kind, number in sorted(tally.counts.items())), flush=True)
            for fault in tally.faults:
                print(f"  {fault}", flush=True)
    bad = sum(number for kind, number in whole.items() if kind not in ("fine", "refused"))
    print(f"{sum(whole.values())} files: {whole['refused']} refused, {whole['fine']} read, {bad} answered badly")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
