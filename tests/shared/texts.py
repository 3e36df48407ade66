"""Real prose, and questions on it, for tests of language models."""

import json
from pathlib import Path

VERSES = [
    line.split("\t")[1]
    for line in (Path(__file__).parents[1] / "fixtures" / "verses.tsv").read_text("utf-8").splitlines()
]


def write_prose(folder):
    """Write the English verses as paragraphs, and give the name of the data."""
    path = folder / "verses.txt"
    path.write_text("\n\n".join(VERSES) + "\n", encoding="utf-8")
    return f"text:{path}"


def write_questions(folder, options=3):
    """Write, for each verse, its first words as a prompt and the rest as the answer; with others as options."""
    lines = []
    for number, verse in enumerate(VERSES):
        words = verse.split()
        prompt, rest = f"{number}. " + " ".join(words[:3]), " ".join(words[3:8])
        if options == 1:
            lines.append({"prompt": prompt, "answer": rest})
            continue
        others = [" ".join(VERSES[number - way].split()[2 : 4 + way]) for way in range(1, options)]
        right = number % options
        lines.append({"prompt": prompt, "options": [*others[:right], rest, *others[right:]], "answer": right})
        if number % 5 == 0:  # a question may have fewer options
            lines[-1] = {"prompt": prompt, "options": [rest, others[0]], "answer": 0}
    path = folder / f"questions{options}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return f"jsonl:{path}"
