"""The manager's methods for notebooks and browsers."""

from __future__ import annotations

from voices_peewee.database.delegated import Delegated
from voices_peewee.database.store import HasStore


class DisplayMethods(HasStore):
    """The manager's methods for notebooks and browsers."""

    plot = Delegated("display.plots", "plot")
    plot_text = Delegated("display.plots", "plot_text")
    to_dataframe = Delegated("display.dataframe", "to_dataframe")
    serve = Delegated("display.web", "serve")
