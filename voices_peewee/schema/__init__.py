"""What the record is: models, fields, views, and what every column is called.

``models`` on ``base`` (the proxy, the CHECKs), ``fields`` and ``exact`` (what a column takes),
``views`` (SQL for other tools), ``vocabulary`` (titles, units, bounds and directions).
"""
