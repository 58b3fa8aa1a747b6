"""Records from Parquet, through pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from voices_peewee.errors import MissingExtraError
from voices_peewee.exchange.import_source import Refuse, Row, Source, table_like

_BATCH = 1000


class Parquet(Source):
    """A Parquet file of one table; JSON columns are text.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: The file is not valid.
    """

    unit = "row"
    is_text = True

    def __init__(self, path: str, *, table: str | None) -> None:
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError as error:
            raise MissingExtraError("reading Parquet", "parquet") from error
        super().__init__(path, table or "")
        self._size, self._done = Path(path).stat().st_size, 0
        try:
            self._file = ParquetFile(path)
        except Exception as error:  # foreign code on foreign bytes
            raise self.error("it is not a valid Parquet file") from error
        try:
            self.table = self.table or table_like(self._file.schema_arrow.names)
        except ValueError as error:
            raise self.error(str(error)) from error

    def rows(self, refuse: Refuse) -> Iterator[Row]:  # noqa: ARG002 - there are no broken lines
        """Yield the records in order.

        Raises:
            InputError: The file is damaged.
        """
        batches = self._file.iter_batches(batch_size=_BATCH)
        while True:
            try:
                batch = next(batches, None)
                records = [] if batch is None else batch.to_pylist()
            except Exception as error:  # foreign code on foreign bytes
                raise self.error("it is damaged", self._done + 1) from error
            if batch is None:
                return
            for record in records:
                self._done += 1
                yield Row(self.table, self._done, record)

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all, as the rows tell."""
        rows = max(1, self._file.metadata.num_rows)
        return self._size * self._done // rows, self._size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
