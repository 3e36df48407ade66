"""Real sentence pairs and a tiny network for tests of translation."""

from pathlib import Path

from labelsmooth.study.tasks.translation import Recipe

FILE = Path(__file__).parents[1] / "fixtures" / "verses.tsv"
TINY = (16, 1, 2, 16)  # width, layers, heads, inner width


def tiny_recipe(folder: Path) -> Recipe:
    """Three trials on the beginnings of the sentences, by a network that other processes can import."""
    pairs = [line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines()]
    lines = ["\t".join(" ".join(sentence.split()[:5]) for sentence in pair) for pair in pairs]
    (folder / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    return Recipe(
        data=f"tsv:{folder / 'pairs.tsv'}", model="tiny_translator:make", vocabulary=300, max_tokens=40,
        eps=(0.0, 0.1), also=("unigram:0.1",), seeds=1, epochs=2, batch_size=200, learning_rate=0.02,
        decode=2, beams=(2,),
    )  # fmt: skip
