"""Adapters to other people's trainers; each loads its peer only when it is imported itself."""
