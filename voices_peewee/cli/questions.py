"""Questions: which model is better, by how much, and whether that is more than chance."""

from __future__ import annotations
