"""For notebooks and browsers: DataFrames, plots, Datasette."""
