"""The manager's methods for exports, imports and deletions."""

from __future__ import annotations

from voices_peewee.database.delegated import Delegated
from voices_peewee.database.store import HasStore


class ExchangeMethods(HasStore):
    """The manager's methods for exports, imports and deletions."""

    export = Delegated("exchange.export", "export")
    import_records = Delegated("exchange.importing", "import_records")
    delete = Delegated("exchange.deletion", "delete")
    delete_speaker = Delegated("exchange.deletion", "delete_speaker")
