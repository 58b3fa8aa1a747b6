"""Tables as Parquet files, through pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final

import peewee as pw

from voices_peewee.errors import ExportError, MissingExtraError
from voices_peewee.exchange.export_rows import Row, Table, converted, time_value
from voices_peewee.schema.fields import JSONField, UTCDateTimeField, dump_json

_GROUP: Final = 2_000  # rows; readers would like more, memory less


def write_parquet(
    stream: BinaryIO, tables: Sequence[Table], rows: Callable[..., Iterator[list[Row]]]
) -> None:
    """Write a table with real types: times in UTC to the microsecond, JSON as text.

    Paths are as the database holds them: bytes that are no text are private-use characters.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ExportError: A value does not fit the type of its column.
    """
    (table,) = tables
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise MissingExtraError("writing Parquet", "parquet") from error
    schema = pa.schema([pa.field(field.column_name, _type(pa, field)) for field in table.fields])
    readers = [(place, read) for place, field in enumerate(table.fields) if (read := _read(field))]
    with ParquetWriter(pa.PythonFile(stream, mode="w"), schema) as writer:
        for batch in rows(table, size=_GROUP):
            columns = zip(*converted(batch, readers), strict=True)
            arrays = [
                _array(pa, list(values), field, table)
                for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _type(pa: Any, field: pw.Field) -> Any:
    field = field.rel_field if isinstance(field, pw.ForeignKeyField) else field
    if isinstance(field, UTCDateTimeField):
        return pa.timestamp("us", tz="UTC")
    if isinstance(field, pw.BooleanField):
        return pa.bool_()
    if isinstance(field, pw.IntegerField):
        return pa.int64()
    return pa.float64() if isinstance(field, pw.DoubleField) else pa.string()


def _read(field: pw.Field) -> Callable[[Any], Any] | None:
    if isinstance(field, UTCDateTimeField):
        return time_value
    if isinstance(field, pw.BooleanField):
        return bool
    return _json if isinstance(field, JSONField) else None


def _json(value: Any) -> str:
    """Return the text of a JSON value, as SQLite stores it."""
    return value if isinstance(value, str) else dump_json(value)


def _array(pa: Any, values: list[Any], field: Any, table: Table) -> Any:
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"{table.name}.parquet", f"{field.name} does not fit into {field.type} ({reason})"
        ) from error
