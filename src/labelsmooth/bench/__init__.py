"""Benchmarks of the losses beside their peers, measured on the machine at hand."""
