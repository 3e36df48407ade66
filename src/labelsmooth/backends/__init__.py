"""Ways to compute row statistics; each module has the same function, and `reference` defines it."""
