"""Ways to bring logits to the row statistics in pieces."""
