"""Query words to a page of rows.

``words`` (the grammar, and what values say), ``columns`` (the lists and their fields),
``conditions`` with ``json_keys`` (SQL of them), ``pages`` (rows). ``methods`` is the door.
"""
