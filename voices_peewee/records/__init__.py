"""Speakers and recordings: audio on the disk, rows in the record.

``speakers`` and ``recordings`` (what people add), ``sources`` (a recording's row, kept true to
its file), ``audio`` (what a file's audio is) and ``audio_files`` (opened, hashed and found).
"""
