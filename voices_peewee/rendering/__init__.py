"""Values as text: one table, one cutter, JSON and CSV; knows no database.

``plain`` (a value as one line), ``table`` (text, HTML, Markdown, LaTeX), ``json_csv`` and
``frames`` (pandas).
"""
