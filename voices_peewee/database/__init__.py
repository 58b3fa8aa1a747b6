"""An open database: connections, transactions, rows to objects, errors in our words.

``store`` (rows) with ``transactions``, on ``sqlite`` or, the wing, ``postgres`` with
``postgres_connection``, ``postgres_together`` and ``postgres_wording``;
``files`` and ``server_url`` (what lies at a path or a URL), ``glimpse`` (a few values for the TAB
key), ``forks`` (what a child does with its parent's connections), ``mapper``, ``query`` and
``results`` (rows and objects), ``dialects`` (SQL that differs), ``wording`` (what an error means).
"""
