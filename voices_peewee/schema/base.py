"""What the models share: the proxy that is bound at run time, their CHECKs, their base classes."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import peewee as pw

from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.vocabulary import check_sql, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

database_proxy = pw.DatabaseProxy()


def _bounded(table: str, **sentences: str) -> dict[str, tuple[str, str]]:
    """Return the CHECKs that keep columns within the bounds of the vocabulary."""
    return {
        f"ck_{table}_{name}": (check_sql(name), f"{name} {sentence}")
        for name, sentence in sentences.items()
    }


# Each CHECK with the sentence a user meets who breaks it.
CHECKS: Final = {
    "ck_speakers_name": ("trim(name) <> ''", "a speaker needs a name"),
    "ck_processed_files_filename": ("filename <> ''", "a file needs a filename"),
    **_bounded(
        "processed_files",
        duration="must be a number of seconds, 0 or more",
        sample_rate="must lie between 1 and 10000000 Hz",
        channels="must lie between 1 and 1024",
        file_size="must be a number of bytes, 0 or more",
    ),
    "ck_processing_history_operation_type": (
        "trim(operation_type) <> ''",
        "a run needs an operation_type",
    ),
    "ck_processing_history_end_time": (
        "end_time >= start_time",
        "end_time must not lie before start_time",
    ),
    **_bounded(
        "model_performance",
        si_snri="must be a finite number of dB",
        sdri="must be a finite number of dB",
        cpu_usage="must be a percentage, 0 or more",
        memory_usage="must be a number of MB, 0 or more",
        processing_time="must be a number of seconds, 0 or more",
        real_time_factor="must be a number, 0 or more",
    ),
    "ck_listening_votes_choice": ("choice IN ('a', 'b')", "a choice is a, b or null"),
    "ck_listening_votes_kind": (
        "kind IN ('pair', 'repeat', 'right', 'wrong')",
        "a kind is pair, repeat, right or wrong",
    ),
}


def checks(table: str) -> list[pw.Node]:
    """Return the CHECKs of a table."""
    prefix = f"ck_{table}_"
    return [
        pw.Check(sql, name=name) for name, (sql, _) in CHECKS.items() if name.startswith(prefix)
    ]


class BaseModel(pw.Model):
    """What the models share: the proxy and an integer key."""

    id = pw.BigAutoField()

    if TYPE_CHECKING:
        __data__: dict[str, Any]
        __rel__: dict[str, Any]
        _dirty: set[str]

    class Meta:
        database = database_proxy
        legacy_table_names = False

    def __init__(self, *args: Any, **values: Any) -> None:
        if "__no_default__" in values:  # a row of a query
            super().__init__(*args, **values)
            return
        plain = _plainly_set(type(self))
        self.__data__ = data = {
            field.name: default() if callable(default) else default
            for field, default in self._meta.defaults.items()
            if field.name not in values
        }
        self._dirty, self.__rel__ = set(data), {}
        for name, value in values.items():
            if name in plain:
                data[name] = value
            elif name in self._meta.combined or isinstance(getattr(type(self), name, 0), property):
                setattr(self, name, value)
            else:  # Peewee keeps it beside the record, where it is lost: rows that refer to it, too
                known = type(self)._meta.combined
                raise InvalidValueError(str(QueryError.unknown_field(name, known)))
        self._dirty.update(data)

    def __str__(self) -> str:
        return " ".join(f"{name}={getattr(self, name)!r}" for name in self.glance())

    def _repr_html_(self) -> str:
        from voices_peewee.rendering.table import html_facts

        fields = self._meta.sorted_fields
        values = [(describe(field.column_name), self.__data__.get(field.name)) for field in fields]
        title = f"{type(self).__name__} {'(not saved)' if self.id is None else self.id}"
        return html_facts(values, title)

    @classmethod
    def glance(cls) -> tuple[str, ...]:
        """Return the names of the columns that a table of many rows, and a repr, shows."""
        return cls._columns or tuple(field.column_name for field in cls._meta.sorted_fields)

    _columns: ClassVar[tuple[str, ...]] = ()  # () means all


@cache
def _plainly_set(model: type[BaseModel]) -> frozenset[str]:
    """Return the fields whose value is set as it is: what Peewee does in a call for each."""
    own = vars(model) if model.__setattr__ is object.__setattr__ else {}
    return frozenset(name for name in model._meta.fields if type(own.get(name)) is pw.FieldAccessor)


class Timestamped(BaseModel):
    """A model whose ``updated_at`` moves on every update, bulk updates included."""

    if TYPE_CHECKING:
        updated_at: dt.datetime

    @classmethod
    def update(cls, *data: Mapping[Any, Any], **changes: Any) -> pw.ModelUpdate:
        """Return Peewee's update query; it also moves ``updated_at``."""
        given = {getattr(key, "name", key) for mapping in data for key in mapping}
        if "updated_at" not in given:
            changes.setdefault("updated_at", utc_now())
        return super().update(*data, **changes)

    def save(self, force_insert: bool = False, only: Any = None) -> Any:
        """Insert or update the row; an update moves ``updated_at``."""
        if self.id is not None and not force_insert:
            self.updated_at = utc_now()
            if only is not None:
                only = [*only, type(self).updated_at]
        return super().save(force_insert=force_insert, only=only)
