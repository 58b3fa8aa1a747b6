"""Recording a run: its rows, its outputs, its metrics and its cost.

``run`` (the block, the decorator and the run that goes on), ``past_runs`` (runs from elsewhere),
``rows`` (the rows of both), ``metrics`` and ``meter`` (what is measured), ``settings`` (what
stands in the rows), ``process`` and ``environment`` (what ran where), ``spool`` (a server that is
away), ``claims`` (who works on what, and runs whose process died), ``recorded`` (tags, notes,
deletion).
"""
