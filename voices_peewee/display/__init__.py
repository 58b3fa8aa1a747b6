"""For notebooks, browsers and papers: DataFrames, plots, players, pages; ``methods`` is the door.

``pages`` writes what ``templates`` and ``static`` hold: ``report`` with its pictures (``svg``)
and players (``sounds``), and the tests of ``listening``. ``web`` is Datasette.
"""
