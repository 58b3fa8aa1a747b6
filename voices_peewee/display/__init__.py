"""For notebooks and browsers: DataFrames, plots, Datasette.

``dataframe`` (pandas), ``plot_data`` (the numbers) and ``plots`` (their pictures), ``player``
(sound in a notebook), ``web`` with ``web_metadata`` (Datasette). ``methods`` is the door.
"""
