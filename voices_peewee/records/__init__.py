"""Speakers and recordings: audio on the disk, rows in the record.

``speakers`` and ``recordings`` (what people add), ``sources`` (a recording's row, kept true to
its file), ``roots`` (paths of another machine), ``audio_files`` (found, opened, hashed and
described) and ``audio`` (what is inside).
"""
