"""Two groupings as a table: one down, the other across."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voices_peewee.errors import QueryError
from voices_peewee.questions.fields import groupings
from voices_peewee.rendering.table import (
    Column,
    html_table,
    latex_table,
    markdown_table,
    text_table,
)

if TYPE_CHECKING:
    import pandas as pd

    from voices_peewee.questions.leaderboard import Leaderboard, LeaderboardRow


@dataclass(frozen=True)
class Pivot:
    """Means of a leaderboard; ``cells`` maps what stands down and across to a row of it."""

    title: str
    kind: str
    name: str
    down: tuple[str, ...]
    across: tuple[str, ...]
    cells: dict[tuple[str, str], LeaderboardRow]
    notes: tuple[str, ...]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows: what stands down, and the means; None where there is none."""
        return [(row, *(self._mean(row, column) for column in self.across)) for row in self.down]

    def _mean(self, row: str, column: str) -> float | None:
        cell = self.cells.get((row, column))
        return None if cell is None else cell.mean

    def columns(self) -> list[Column]:
        """Return the columns: what stands down, and one for each that stands across."""
        return [Column(self.name, "key"), *(Column(name, self.kind, name) for name in self.across)]

    def __str__(self) -> str:
        return "\n".join([self.title, *text_table(self.columns(), self.rows()), *self.notes])

    def _repr_html_(self) -> str:
        return html_table(self.columns(), self.rows(), self.title, "; ".join(self.notes))

    def to_markdown(self) -> str:
        """Return the means as GitHub's Markdown."""
        notes = "".join(f"\n{note}\n" for note in (self.title, *self.notes))
        return markdown_table(self.columns(), self.rows()) + notes

    def to_latex(self) -> str:
        """Return the means for LaTeX (booktabs)."""
        return latex_table(self.columns(), self.rows(), self.title)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame of the means, with what stands down as a column.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from voices_peewee.rendering.frames import frame

        columns = [Column(self.name, "text"), *(Column(name, "float") for name in self.across)]
        return frame(columns, iter([self.rows()]))


def pivot(board: Leaderboard) -> Pivot:
    """Return the means of a leaderboard as a table, the best of each axis first.

    Raises:
        QueryError: It has only one grouping.
    """
    cells = {row.labels: row for row in board.rows}
    if any(len(labels) != 2 for labels in cells) or len(groupings(board.by)) != 2:
        raise QueryError("a table across needs two groupings, such as speaker,model")
    down = tuple(dict.fromkeys(labels[0] for labels in cells))
    across = tuple(dict.fromkeys(labels[1] for labels in cells))
    kind = "fixed" if board.metric_unit == "dB" else "number"
    name = groupings(board.by)[0]
    found = {(labels[0], labels[1]): row for labels, row in cells.items()}
    return Pivot(board.title, kind, name, down, across, found, board.notes)
