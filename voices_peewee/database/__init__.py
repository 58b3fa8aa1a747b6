"""An open database: connections, transactions, rows to objects, errors in our words."""
