"""Which migrations are applied; applying, rolling back, writing and comparing them."""
