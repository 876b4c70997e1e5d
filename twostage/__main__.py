"""The command ``twostage``, as a script and as ``python -m twostage``."""

from __future__ import annotations

import sys

from faces.command import catch_interrupts


def main() -> int:
    """Run the command line; Ctrl-C ends it quietly from the first import on."""
    catch_interrupts("twostage")
    from twostage import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
