"""``python -m voices_peewee``, and the program ``voices``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C while its modules are still loaded ends it without a word."""
    try:
        from voices_peewee.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
