"""Two groupings as a table: one down, the other across."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voices_peewee.errors import QueryError
from voices_peewee.questions.fields import groupings
from voices_peewee.questions.tables import Cells, Tabular
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.questions.leaderboard import Leaderboard


@dataclass(frozen=True, repr=False)
class Pivot(Tabular):
    """Means of a leaderboard by what stands down and across."""

    title: str
    kind: str
    name: str
    down: tuple[str, ...]
    across: tuple[str, ...]
    means: dict[tuple[str, ...], float | None]
    notes: tuple[str, ...]

    def cells(self) -> Cells:
        """Return what stands down, and the means; None where there is none."""
        columns = [
            Column(self.name, "key"),
            *(Column(name, self.kind, name) for name in self.across),
        ]
        return columns, [
            (row, *(self.means.get((row, column)) for column in self.across)) for row in self.down
        ]

    def facts(self) -> Cells:
        """Return the same for a DataFrame: what stands down is a column."""
        columns = [Column(self.name), *(Column(name, "float") for name in self.across)]
        return columns, self.cells()[1]


def pivot(board: Leaderboard) -> Pivot:
    """Return the means of a leaderboard as a table, the best of each axis first."""
    names = groupings(board.by)
    if len(names) != 2:
        raise QueryError("a table across needs two groupings, such as speaker,model")
    found = {row.labels: row.mean for row in board.rows}
    down, across = (tuple(dict.fromkeys(labels[place] for labels in found)) for place in (0, 1))
    kind = "fixed" if board.metric_unit == "dB" else "number"
    return Pivot(board.title, kind, names[0], down, across, found, board.notes)
