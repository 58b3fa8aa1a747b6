"""The manager's methods for questions."""

from __future__ import annotations

from voices_peewee.database.delegated import Delegated
from voices_peewee.database.store import HasStore


class QuestionMethods(HasStore):
    """The manager's methods for questions."""

    pending = Delegated("questions.failures", "pending")
    failures = Delegated("questions.failures", "failures")
    show_run = Delegated("questions.failures", "show_run")
    history = Delegated("questions.failures", "history")
    leaderboard = Delegated("questions.leaderboard", "leaderboard")
    compare = Delegated("questions.leaderboard", "compare")
