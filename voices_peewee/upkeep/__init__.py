"""Keeping a record safe: backups, their verification and restoring, and what is wrong with it.

- ``methods``: the manager's methods, and what is there
- ``backup``: copies of a live database, page by page; ``restore``: putting one back, and what
  others made in it
- ``check``: what is wrong; ``values``: what cannot be read
- ``whole_files``: a file appears whole or not at all
"""
