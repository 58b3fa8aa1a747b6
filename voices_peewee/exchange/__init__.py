"""Out and in: exports, imports, merging."""
