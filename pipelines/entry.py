"""The console script: settings that must be made before torch is loaded, then the command line."""

from __future__ import annotations

import os
import sys


def open_streams() -> None:
    """Give the process the three streams that it was started without (`>&-`), leading nowhere.

    Else the next file that is opened takes the number of the missing one, and what a library says to the user is written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def main() -> None:
    """Run `deja-vu`.

    Worker threads sleep between parallel sections instead of spinning: many of our tensors are small, and spinning threads on a
    busy machine made the same work up to thirty times slower. A setting of the user's own wins.
    """
    open_streams()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from deja_vu.pipelines.cli import main as run

    run()


if __name__ == "__main__":
    main()
