"""An answer that is a table with a title and notes: as text, HTML, Markdown, LaTeX and a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from voices_peewee.rendering.plain import printable
from voices_peewee.rendering.table import (
    ROWS,
    Column,
    cut_note,
    html_table,
    latex_table,
    markdown_table,
    text_table,
)

if TYPE_CHECKING:
    import pandas as pd

Cells = tuple[Sequence[Column], list[tuple[object, ...]]]


class Tabular:
    """What is shown of an answer that has a title, notes and cells; text is so wide at most."""

    width: ClassVar[int | None] = 80

    if TYPE_CHECKING:

        @property
        def title(self) -> str: ...
        @property
        def notes(self) -> tuple[str, ...]: ...

    @property
    def caption(self) -> str:
        """What stands with a table in a paper."""
        return self.title

    def cells(self) -> Cells:
        """Return the columns and rows of the table."""
        raise NotImplementedError

    def facts(self) -> Cells:
        """Return the columns and rows of a DataFrame."""
        return self.cells()

    def more(self) -> list[str]:
        """Return what the text says between the table and the notes."""
        return []

    def said(self, rows: Sequence[object]) -> Sequence[str]:
        """Return what a reader has to know of a table of rows."""
        return self.notes if rows else ("no runs",)

    def __str__(self) -> str:
        columns, rows = self.cells()
        table = text_table(columns, rows, self.width) if rows else []
        return "\n".join([self.title, *table, *self.more(), *self.said(rows)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        columns, rows = self.cells()
        cut = [cut_note(ROWS, len(rows), "group")] if len(rows) > ROWS else []
        return html_table(columns, rows[:ROWS], self.title, "; ".join([*cut, *self.said(rows)]))

    def to_markdown(self) -> str:
        """Return a table for GitHub, with what a reader has to know."""
        columns, rows = self.cells()
        notes = "".join(f"- {printable(note)}\n" for note in self.said(rows))
        return f"{markdown_table(columns, rows)}\n{self.caption}\n\n{notes}"

    def to_latex(self) -> str:
        """Return a table for LaTeX (booktabs), whose caption says what a reader has to know."""
        columns, rows = self.cells()
        return latex_table(columns, rows, "; ".join([self.caption, *self.said(rows)]))

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame, which has every digit.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from voices_peewee.rendering.frames import frame

        columns, rows = self.facts()
        return frame(columns, iter([rows]))
