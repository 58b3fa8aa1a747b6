"""How fast the package is beside raw sqlite3 and its peers: ``python -m benchmarks --quick``."""
