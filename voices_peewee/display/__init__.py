"""For notebooks and browsers: DataFrames, plots, Datasette.

``dataframe`` (pandas), ``plots`` (Matplotlib), ``labels`` (what things are called), ``player``
(sound in a notebook), ``web`` with ``web_metadata`` (Datasette). ``methods`` is the door.
"""
