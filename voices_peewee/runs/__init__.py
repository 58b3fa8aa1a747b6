"""Recording a run: its rows, its outputs, its metrics and its cost.

``tracking`` (the block and the decorator), ``run`` (a run that goes on), ``past_runs`` (runs from
elsewhere), ``rows`` (how both become rows), ``metrics`` and ``meter`` (what is measured),
``settings``, ``process`` and ``environment`` (what ran where), ``overwriting``, ``failure``,
``spool`` (a server that is away), ``closing`` (runs whose process died).
"""
