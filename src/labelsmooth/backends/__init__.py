"""Ways to compute row statistics; `contract` says what they share."""
