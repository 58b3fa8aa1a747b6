"""Recording a run: its rows, its outputs, its metrics and its cost.

``tracking`` (the block and the decorator), ``run`` (a run that goes on), ``past_runs`` (runs from
elsewhere), ``rows`` (the files of both), ``metrics`` and ``meter`` (what is measured),
``settings`` (what stands in the rows), ``process`` and ``environment`` (what ran where), ``spool``
(a server that is away), ``closing`` (runs whose process died), ``claims`` (who works on what),
``recorded`` (tags, notes, deletion).
"""
