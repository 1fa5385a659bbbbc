"""``lightning compare``: trained runs beside one another, on the same queries."""
