"""``python -m vkdnw_pl``."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from vkdnw_pl.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
