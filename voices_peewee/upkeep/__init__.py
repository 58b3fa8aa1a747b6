"""Backup, verification, restoring and checking."""
