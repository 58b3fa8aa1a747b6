"""Two groupings as a table: one down, the other across."""

from __future__ import annotations

from dataclasses import dataclass

from voices_peewee.questions.tables import Cells, Tabular
from voices_peewee.rendering.table import Column


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
