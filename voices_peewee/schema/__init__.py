"""What the record is: models, fields, views, and what every column is called."""
