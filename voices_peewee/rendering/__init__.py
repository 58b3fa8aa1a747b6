"""Values as text: one table, one cutter, JSON and CSV; knows no database.

``plain`` (values and tables as plain text), ``table`` (as Markdown, LaTeX, HTML), ``json_csv``
and ``frames`` (pandas).
"""
