"""Two groupings as a table: one down, the other across."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voices_peewee.errors import QueryError
from voices_peewee.questions.fields import MODEL
from voices_peewee.questions.selection import model_label
from voices_peewee.rendering.table import Column, html_table, text_table

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

    def _rows(self) -> list[tuple[Any, ...]]:
        return [(row, *(self._mean(row, column) for column in self.across)) for row in self.down]

    def _mean(self, row: str, column: str) -> float | None:
        cell = self.cells.get((row, column))
        return None if cell is None else cell.mean

    def columns(self) -> list[Column]:
        """Return the columns: what stands down, and one for each that stands across."""
        return [Column(self.name, "key"), *(Column(name, self.kind, name) for name in self.across)]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows: what stands down, and the means; None where there is none."""
        return self._rows()

    def __str__(self) -> str:
        return "\n".join([self.title, *text_table(self.columns(), self._rows()), *self.notes])

    def _repr_html_(self) -> str:
        return html_table(self.columns(), self._rows(), self.title, "; ".join(self.notes))

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame of the means, with what stands down as a column.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from voices_peewee.rendering.frames import frame

        columns = [Column(self.name, "text"), *(Column(name, "float") for name in self.across)]
        return frame(columns, iter([self._rows()]))


def pivot(board: Leaderboard) -> Pivot:
    """Return the means of a leaderboard as a table, the best of each axis first.

    Raises:
        QueryError: It has only one grouping.
    """
    cells = {_labels(row): row for row in board.rows}
    if any(len(labels) != 2 for labels in cells) or len(_groupings(board.by)) != 2:
        raise QueryError("a table across needs two groupings, such as speaker,model")
    down = tuple(dict.fromkeys(labels[0] for labels in cells))
    across = tuple(dict.fromkeys(labels[1] for labels in cells))
    kind = "fixed" if board.metric_unit == "dB" else "number"
    name = _groupings(board.by)[0]
    found = {(labels[0], labels[1]): row for labels, row in cells.items()}
    return Pivot(board.title, kind, name, down, across, found, board.notes)


def _groupings(by: tuple[str, ...]) -> tuple[str, ...]:
    """Return the groupings, of which a model and its version are one."""
    if not {*MODEL} <= {*by}:
        return by
    return tuple(
        dict.fromkeys("model" if name in MODEL else name for name in by)
    )


def _labels(row: LeaderboardRow) -> tuple[str, ...]:
    values = dict(zip(row.by, row.key, strict=True))
    model = model_label(values.get("model_type"), values.get("model_version"))
    return tuple(
        model if name == "model" else "-" if values[name] is None else str(values[name])
        for name in _groupings(row.by)
    )
