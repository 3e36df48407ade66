"""Real sentence pairs and a tiny network for tests of translation."""

from pathlib import Path

FILE = Path(__file__).parents[1] / "fixtures" / "verses.tsv"
TINY = (16, 1, 2, 16)  # width, layers, heads, inner width
