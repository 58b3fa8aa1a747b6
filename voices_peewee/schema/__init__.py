"""What the record is: models, fields, and what every column is called.

``models`` on ``base`` (the proxy, the CHECKs), ``fields`` and ``exact`` (what a column takes),
``vocabulary`` (titles, units, bounds and directions). The views, SQL for other tools, stand in the
migrations alone.
"""
