"""``python -m voices_peewee.cli``."""

from __future__ import annotations

from voices_peewee.cli import main

if __name__ == "__main__":
    main()
