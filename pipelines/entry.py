"""What the console script starts: settings that must stand before torch is loaded, then the command line."""

from __future__ import annotations

import os


def main() -> None:
    """Run `deja-vu`.

    Worker threads sleep between parallel sections instead of spinning: many of our tensors are small, and spinning threads on a
    busy machine made the same work up to thirty times slower. A setting of the user's own wins.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from deja_vu.pipelines.cli import main as run

    run()


if __name__ == "__main__":
    main()
