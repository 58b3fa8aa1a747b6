"""Keeping a record safe: backups, their verification and restoring, and what is wrong with it.

- ``methods``: the manager's methods
- ``backup``: copies of a live database; ``restoring``: putting one back; ``copying``: one file
  of SQLite, page by page
- ``check``: what is wrong; ``values``: what cannot be read; ``foreign``: what others made
- ``status``: what is there
- ``whole_files``: a file appears whole or not at all
"""
