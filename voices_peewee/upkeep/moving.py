"""Recorded paths after their files moved to other folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from typing import Any, Final, NamedTuple

from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError
from voices_peewee.records.audio_files import content_hash, file_name, regular_file
from voices_peewee.records.roots import PathMap
from voices_peewee.schema.fields import dump_json, utc_now
from voices_peewee.schema.models import ProcessedFile
from voices_peewee.search.columns import read_json

_ROWS: Final = """SELECT id, recording_id, original_path, processed_path, file_size,
 content_hash, metadata FROM processed_files ORDER BY id"""
_RECORDING: Final = "UPDATE processed_files SET original_path = ?, filename = ?, updated_at = ?"
_OUTPUT: Final = "UPDATE processed_files SET processed_path = ?, updated_at = ? WHERE id = ?"
_METADATA: Final = "UPDATE processed_files SET metadata = ? WHERE id = ?"
_FILE: Final = ProcessedFile


class _Move(NamedTuple):
    """A path of a row that goes to another; ``own`` where size and hash are of its file."""

    row: tuple[Any, ...]
    is_output: bool
    is_own: bool
    old: str
    new: str

    @property
    def digest(self) -> str | None:
        """The hash of what must be there; None where nobody knows."""
        *_, digest, _ = self.row
        return digest if self.is_own else None


def move_paths(
    store: Store, paths: PathMap, on_progress: Callable[[int, int], None] | None
) -> tuple[int, int, list[tuple[str, str]]]:
    """Move recorded paths, in one transaction, whose files have the content that is recorded.

    Returns:
        How many were moved; of how many no content is recorded; what hinders each other one.
    """
    with store.reading():
        rows = store.connection().execute(_ROWS).fetchall()
    known = {path: path for path in (str(_path(row[2])) for row in rows if row[1] is None)}
    moves = [move for row in rows for move in _moves(row, paths)]
    good: list[_Move] = []
    hindered: list[tuple[str, str]] = []
    for count, move in enumerate(moves, 1):
        if reason := _hindrance(move, known):
            hindered.append((move.old, reason))
        else:
            good.append(move)
            if not move.is_output:  # its place is free for one that comes after it
                known.pop(move.old, None)
                known[move.new] = move.old
        if on_progress is not None:
            on_progress(count, len(moves))
    stays, told, moved = dict(hindered), [], [move.old for move in good]
    for row in rows:
        if row[1] is None and _path(row[2]) not in stays:
            references, went, lost = _references(row[-1], paths, stays)
            hindered += [(old, f"{new!r} is not there") for old, new in lost]
            told += [(references, row[0])] if references else []
            moved += went
    _write(store, good, told)
    read = {move.old for move in good if move.digest}
    return len(moved), sum(old not in read for old in moved), hindered


def _path(stored: object) -> Any:
    return _FILE.original_path.python_value(stored)


def _moves(row: tuple[Any, ...], paths: PathMap) -> Iterator[_Move]:
    is_part = row[1] is not None
    for is_output, stored in ((False, None if is_part else row[2]), (True, row[3])):
        old = _path(stored)
        if isinstance(old, str) and (new := paths(old)) != old:
            yield _Move(row, is_output, is_output == is_part, old, new)


def _hindrance(move: _Move, known: dict[str, str]) -> str:
    """Say why a path cannot move; nothing where it can. ``known`` has recordings by new paths."""
    if not move.is_output and known.get(move.new, move.old) != move.old:
        return f"there is a recording {move.new!r} already"
    status = regular_file(move.new)
    if status is None:
        return f"{move.new!r} is not there"
    if move.digest is None:
        return ""
    try:
        same = status.st_size == move.row[4] and content_hash(move.new) == move.digest
    except AudioError as error:
        return str(error)
    return "" if same else f"{move.new!r} has other content"


def _write(store: Store, moves: list[_Move], told: list[tuple[str, int]]) -> None:
    stored, now = _FILE.original_path.db_value, _FILE.updated_at.db_value(utc_now())
    recordings = [move for move in moves if not move.is_output]
    named = [(stored(one.new), stored(file_name(one.new)), now, one.row[0]) for one in recordings]
    outputs = [(stored(one.new), now, one.row[0]) for one in moves if one.is_output]
    with store.writing():
        for sql, values in (
            (f"{_RECORDING} WHERE id = ?", named),
            (f"{_RECORDING} WHERE recording_id = ?", named),
            (_OUTPUT, outputs),
            (_METADATA, told),
        ):
            if values:
                store.connection().executemany(sql, values)


def _references(
    stored: object, paths: PathMap, stays: Container[str]
) -> tuple[str, list[str], list[tuple[str, str]]]:
    """Return a recording's metadata with its references where they are; which went, and did not.

    The metadata are empty where nothing changes.
    """
    metadata: Any = read_json(stored)  # also where no models are bound, as in the shell
    before = metadata.get("references") if isinstance(metadata, dict) else None
    if not isinstance(before, dict):
        return "", [], []
    moves = {name: (one, paths(one)) for name, one in before.items() if isinstance(one, str)}
    moves = {name: (a, b) for name, (a, b) in moves.items() if a != b and a not in stays}
    there = {name: new for name, (_, new) in moves.items() if os.path.isfile(new)}
    lost = [move for name, move in moves.items() if name not in there]
    now = dump_json({**metadata, "references": {**before, **there}}) if there else ""
    return now, [moves[name][0] for name in there], lost
