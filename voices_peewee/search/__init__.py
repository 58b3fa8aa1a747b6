"""Query words to a page of rows."""
