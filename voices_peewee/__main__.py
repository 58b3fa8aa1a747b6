"""``python -m voices_peewee``, and the program ``voices``."""

from __future__ import annotations

import gc
import sys
from typing import Final

_MANY: Final = 50_000  # new objects; every 700, as is usual, takes a tenth of a short command


def main() -> None:
    """Run the command line; Ctrl-C while its modules are still loaded ends it without a word."""
    gc.set_threshold(_MANY)
    try:
        from voices_peewee.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # the end of the program would look through all of it once more


if __name__ == "__main__":
    main()
