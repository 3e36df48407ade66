"""Saved predictions of anyone's models: read from files larger than memory, and measured."""
