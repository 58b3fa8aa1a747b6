"""Speakers and recordings: audio on the disk, rows in the record."""
