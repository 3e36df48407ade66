"""How often a verdict is wrong, and how often it finds what is there, old rule beside new.

    fashion=idx:/usr/share/datasets/fashion-mnist
    python benchmarks/verdict.py train fashion --data $fashion --rows 6400 --epochs 15 --seeds 17
    python benchmarks/verdict.py train letters --data npz:letters.npz --rows 4000 --epochs 30 --seeds 60
    python benchmarks/verdict.py report fashion letters

`train` trains small MLPs of many seeds with hard labels, ε = 0.02 and ε = 0.1 on the first rows of a data
set, and stores their logits on all the others. Some of these rows are then the population: means over them
and over the seeds are the truth. `report` draws studies from it, seeds and rows with replacement, each with
as many validation rows as test rows, fits the temperatures, and prints what the rules say. Where arms are to
be equal, the NLL of every row of an arm is shifted by what its mean is above that of hard labels.

The old rule takes t-intervals over seeds on the fixed test rows, and recommends the simplest arm that the
best one does not beat; the new one is `labelsmooth.report.study.verdict.recommend`.

LetterRecognition comes from Debian's r-cran-mlbench, read with `pip install rdata`:

    rows = rdata.read_rda("LetterRecognition.rda")["LetterRecognition"]
    labels = rows.iloc[:, 0].cat.codes.to_numpy(np.int64)
    np.savez("letters.npz", x=rows.iloc[:, 1:].to_numpy(np.float32), y=labels)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import labelsmooth as ls
from labelsmooth.measure import TemperatureScaling
from labelsmooth.measure.crossed import Crossed
from labelsmooth.measure.influence import log_temperature_influence
from labelsmooth.measure.interval import simultaneous_level
from labelsmooth.report.study.estimate import Estimate, estimate
from labelsmooth.report.study.verdict import Arm, recommend
from labelsmooth.study import Objective
from labelsmooth.study.tasks.images.readers import read_source
from labelsmooth.study.tasks.influences import score_influences

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Places: TypeAlias = npt.NDArray[np.intp]

EPS = (0.0, 0.02, 0.1)
SEEDS, ROWS, OTHERS = (2, 3, 5, 10), (360, 1000, 10_000), (1, 3, 13)
# logarithms of the temperature over each network's best on the population
GRID = np.linspace(-0.32, 0.32, 9)
# of those that the findings report: seeds, test rows, other objectives, difference in NLL with a temperature
REPORTED = ((3, 1000, 2, 0.040), (5, 1000, 13, 0.015), (5, 1000, 13, 0.026), (5, 10_000, 3, 0.015))


def train(out: Path, data: str, rows: int, epochs: int, width: int, seeds: int) -> None:
    """Train what is missing, and store half-precision logits of all rows but the first."""
    x, y = all_rows(data, rows)
    num_classes = int(y.max()) + 1
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "labels.npy", y[rows:].numpy())
    for seed, eps in product(range(seeds), EPS):
        path = out / f"{eps:g}-{seed}.npy"
        if path.exists():
            continue
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, num_classes),
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (rows // 128))
        for _ in range(epochs):
            for batch in torch.randperm(rows)[: rows // 128 * 128].view(-1, 128):
                optimizer.zero_grad()
                ls.cross_entropy(network(x[batch]), y[batch], label_smoothing=eps).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            logits = torch.cat([network(block) for block in torch.split(x[rows:], 2000)])
        np.save(path, logits.half().numpy())
        print(f"{path}: accuracy {(logits.argmax(-1) == y[rows:]).double().mean():.4f}", flush=True)


def all_rows(data: str, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All rows of a data set in one random order, standardised with the first."""
    source = read_source(data)
    parts = [(source.images, source.labels), *([source.own_test] if source.own_test else [])]
    x = np.concatenate([np.asarray(images, np.float32).reshape(len(images), -1) for images, _ in parts])
    y = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    axis = None if source.images.ndim > 2 else 0  # all pixels of images alike, columns of tables one by one
    x = (x - x[:rows].mean(axis)) / x[:rows].std(axis)
    return torch.from_numpy(x), torch.from_numpy(y)


class Population:
    """The stored networks, with the NLL of every row at temperatures around the best."""

    def __init__(self, folder: Path, most_rows: int) -> None:
        self.name = folder.name
        seeds = range(min(len(list(folder.glob(f"{eps:g}-*.npy"))) for eps in EPS))
        self.labels = np.load(folder / "labels.npy")[:most_rows].astype(np.int64)
        self.logits = [
            [np.load(folder / f"{eps:g}-{seed}.npy", mmap_mode="r")[:most_rows] for seed in seeds]
            for eps in EPS
        ]
        self.seeds, self.rows = len(seeds), len(self.labels)
        # (arm, seed, row, temperature), and of no temperature (arm, seed, row)
        self.scaled = np.empty((len(EPS), self.seeds, self.rows, len(GRID)), np.float32)
        self.plain = np.empty(self.scaled.shape[:3], np.float32)
        self.correct = np.empty(self.scaled.shape[:3], bool)
        best = np.empty(self.scaled.shape[:2])
        for arm, seed in np.ndindex(best.shape):
            z = self.logits[arm][seed].astype(np.float32)
            best[arm, seed] = TemperatureScaling().fit(z, self.labels).temperature
            self.correct[arm, seed] = z.argmax(-1) == self.labels
            self.plain[arm, seed] = nll(z, self.labels)
            for place, shift in enumerate(GRID):
                self.scaled[arm, seed, :, place] = nll(
                    z / np.float32(best[arm, seed] * np.exp(shift)), self.labels
                )
        middle = len(GRID) // 2
        self.means = np.stack(
            [self.plain.mean((1, 2)), self.scaled[..., middle].mean((1, 2))], -1
        )  # (arm, 2)
        self.accuracy = self.correct.mean((1, 2))
        self.calibrated = self.scaled[..., middle]  # what the NLL would be if no temperature were needed
        print(
            f"\n## {self.name}: {self.seeds} seeds, {self.rows:,} rows\n\n"
            + "\n".join(
                f"- ε = {eps:g}: NLL {plain:.4f}, with T {scaled:.4f}, T {temperature:.2f}, "
                f"accuracy {100 * right:.2f} %"
                for eps, (plain, scaled), temperature, right in zip(
                    EPS, self.means, best.mean(1), self.accuracy, strict=True
                )
            ),
            flush=True,
        )


def nll(logits: Singles, labels: npt.NDArray[np.int64]) -> Singles:
    shifted = logits - logits.max(-1, keepdims=True)
    at_label = np.take_along_axis(shifted, labels[:, None], -1)[:, 0]
    value: Singles = np.log(np.exp(shifted).sum(-1)) - at_label
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One arm of a drawn study: its NLLs are shifted, and where it is calibrated no temperature is needed."""

    population: Population
    arm: int
    seeds: Places
    test: Places
    validation: Places
    shift: Sequence[float] = (0.0, 0.0)  # without and with a temperature
    calibrated: bool = False

    @property
    def tables(self) -> tuple[Singles, Singles]:
        """The NLL of this arm's networks without a temperature, and at the temperatures of the grid."""
        plain = self.population.calibrated if self.calibrated else self.population.plain
        return plain[self.arm], self.population.scaled[self.arm]

    @cached_property
    def fits(self) -> list[tuple[int, float, float]]:
        """Of each seed the fitted temperature, as a place beside one of the grid, and the validation NLL."""
        share = np.bincount(self.validation, minlength=self.population.rows) / len(self.validation)
        found = []
        for seed in self.seeds:
            curve = share @ self.tables[1][seed]
            at = min(max(int(curve.argmin()), 1), len(GRID) - 2)
            place = min(max(vertex(curve[at - 1 : at + 2]), -1.0), 1.0)
            scaled = float(parabola(curve[at - 1 : at + 2], place)[0]) + self.shift[1]
            found.append((at, place, min(scaled, float(share @ self.tables[0][seed]) + self.shift[0])))
        return found

    @property
    def validation_nll(self) -> float:
        return float(np.mean([nll for _, _, nll in self.fits]))

    @property
    def plain(self) -> Crossed:
        rows = self.tables[0][np.ix_(self.seeds, self.test)].astype(np.float64) + self.shift[0]
        return Crossed(rows.mean(1), {"test": rows})

    @property
    def scaled(self) -> Crossed:
        rows, moved = [], []
        for seed, (at, place, _) in zip(self.seeds, self.fits, strict=True):
            near = self.tables[1][seed][:, at - 1 : at + 2]
            value, slope, _ = parabola(near[self.test], place)
            _, fitted_slope, bend = parabola(near[self.validation], place)
            rows.append(value + self.shift[1])
            moved.append(-slope.mean() * (fitted_slope - fitted_slope.mean()) / bend.mean())
        test = np.stack(rows)
        return Crossed(test.mean(1), {"test": test, "validation": np.stack(moved)})

    @property
    def accuracy(self) -> Crossed:
        rows = self.population.correct[self.arm][np.ix_(self.seeds, self.test)].astype(np.float64)
        return Crossed(rows.mean(1), {"test": rows})


def vertex(values: Floats) -> float:
    """Where the parabola through values at −1, 0 and 1 is lowest."""
    bend = values[0] - 2 * values[1] + values[2]
    return float((values[0] - values[2]) / (2 * bend)) if bend > 0 else 0.0


def parabola(values: npt.NDArray[np.floating], place: float) -> tuple[Floats, Floats, Floats]:
    """Value, slope and bend at a place of parabolas through values (…, 3) at −1, 0 and 1."""
    left, middle, right = np.moveaxis(values.astype(np.float64), -1, 0)
    half, bend = (right - left) / 2, left - 2 * middle + right
    return middle + half * place + bend * place**2 / 2, half + bend * place, bend


def arms_of(hard: Drawn, other: Drawn) -> list[Arm]:
    arms = []
    for objective, drawn in ((Objective("hard"), hard), (Objective.uniform(0.1), other)):
        arms.append(Arm(objective=objective, repair="", scores={"nll": drawn.plain}))
        arms.append(Arm(objective=objective, repair="temperature", scores={"nll": drawn.scaled}))
    return arms


def over_seeds(arms: Sequence[Arm]) -> list[Arm]:
    """The arms as the old rule sees them: rows leave nothing open."""
    return [
        Arm(objective=arm.objective, repair=arm.repair, scores={"nll": Crossed(arm.scores["nll"].values)})
        for arm in arms
    ]


def old_rule(arms: Sequence[Arm]) -> Arm:
    """The simplest arm that the best does not beat."""
    seen = over_seeds(arms)
    best = min(seen, key=lambda arm: arm.scores["nll"].mean)
    return arms[next(place for place, arm in enumerate(seen) if not best.beats(arm, "nll"))]


def drawn_studies(
    population: Population,
    seeds: int,
    rows: int,
    others: int,
    draws: int,
    shift_of: Callable[[int], Sequence[float]],
    calibrated: bool = False,
) -> Iterator[tuple[Drawn, Drawn]]:
    """Hard labels, and which of the other arms the validation rows chose, from studies drawn anew.

    The other arms are by turns ε = 0.1 and ε = 0.02; the first of each has the seeds of hard labels, and
    those beyond have seeds of their own.
    """
    rng = np.random.default_rng([seeds, rows, others])
    for _ in range(draws):
        test, validation = rng.integers(0, population.rows, (2, rows))
        paired = rng.integers(0, population.seeds, seeds)
        drawn = partial(Drawn, population=population, test=test, validation=validation, calibrated=calibrated)
        candidates = []
        for place in range(others):
            arm = 2 - place % 2
            own = paired if place < 2 else rng.integers(0, population.seeds, seeds)
            candidates.append(drawn(arm=arm, seeds=own, shift=shift_of(arm)))
        yield drawn(arm=0, seeds=paired), min(candidates, key=lambda one: one.validation_nll)


def equal_to_hard(population: Population, apart: float = 0.0) -> Callable[[int], Sequence[float]]:
    """The shifts that make an arm's NLLs those of hard labels, less a difference."""
    return lambda arm: population.means[0] - population.means[arm] - apart


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def coverage(population: Population, draws: int) -> None:
    """Whether the intervals of differences hold the population's, and which they claim under the null."""
    print(
        "\nIntervals of ε = 0.1 minus hard labels, old / new (%): how many hold the population's difference, "
        "and, with the arms made equal, how many call it beyond noise\n"
    )
    print("| seeds | rows | NLL with T: holds | accuracy: holds | NLL with T: false difference |")
    print("|---|---|---|---|---|")
    for seeds, rows in product(SEEDS, ROWS):
        held = np.zeros((2, 2))
        truth = (
            population.means[2, 1] - population.means[0, 1],
            population.accuracy[2] - population.accuracy[0],
        )
        for hard, other in drawn_studies(population, seeds, rows, 1, draws, lambda _: (0.0, 0.0)):
            for place, number in enumerate((other.scaled - hard.scaled, other.accuracy - hard.accuracy)):
                for rule, crossed in enumerate((Crossed(number.values), number)):
                    held[place, rule] += holds(estimate(crossed), truth[place])
        shares = held / draws
        print(
            f"| {seeds} | {rows:,} | "
            + " | ".join(f"{percent(old)} / {percent(new)}" for old, new in (*shares, 1 - shares[0]))
            + " |",
            flush=True,
        )


def holds(found: Estimate, truth: float) -> bool:
    return abs(found.mean - truth) <= found.half_width


def false_recommendations(population: Population, draws: int) -> None:
    """What is recommended where all arms are equal."""
    print(
        "\nArms made equal: how often one objective is recommended over another, old (other than hard) / new "
        "(other than hard + hard) (%)\n"
    )
    print("| seeds | rows | " + " | ".join(f"{others} other{'s' * (others > 1)}" for others in OTHERS) + " |")
    print("|---" * (2 + len(OTHERS)) + "|")
    for seeds, rows in product(SEEDS, ROWS):
        cells = []
        for others in OTHERS:
            old = smoothed = hard_labels = 0
            studies = drawn_studies(population, seeds, rows, others, draws, equal_to_hard(population))
            for hard, other in studies:
                arms = arms_of(hard, other)
                old += old_rule(arms).objective.kind != "hard"
                found = recommend(arms, simultaneous_level(others))
                smoothed += found is not None and found.objective.kind != "hard"
                hard_labels += found is not None and found.objective.kind == "hard"
            cells.append(
                f"{percent(old / draws)} / {percent(smoothed / draws)} + {percent(hard_labels / draws)}"
            )
        print(f"| {seeds} | {rows:,} | " + " | ".join(cells) + " |", flush=True)


def needless_temperatures(population: Population, draws: int) -> None:
    """What is said of a temperature where the best is 1 for every network."""
    print(
        "\nLogits whose best temperature is 1: how often a fitted one is called better, and worse, "
        "old / new (%)\n"
    )
    print("| seeds | rows | better | worse |\n|---|---|---|---|")
    for seeds, rows in product(SEEDS, ROWS):
        said = np.zeros((2, 2))
        for hard, other in drawn_studies(
            population, seeds, rows, 1, draws, lambda _: (0.0, 0.0), calibrated=True
        ):
            arms = arms_of(hard, other)
            for rule, (plain, scaled) in enumerate((over_seeds(arms)[:2], arms[:2])):
                said[0, rule] += scaled.beats(plain, "nll")
                said[1, rule] += plain.beats(scaled, "nll")
        cells = [f"{percent(old)} / {percent(new)}" for old, new in said / draws]
        print(f"| {seeds} | {rows:,} | " + " | ".join(cells) + " |", flush=True)


def power(population: Population, draws: int) -> None:
    """How often an objective that is better by so much is recommended."""
    print(
        "\nEvery other objective better by a difference in NLL (with T and without): how often one is "
        "recommended, old / new (%)\n"
    )
    print("| seeds | rows | others | difference | recommended |\n|---|---|---|---|---|")
    for seeds, rows, others, apart in REPORTED:
        old = new = 0
        studies = drawn_studies(population, seeds, rows, others, draws, equal_to_hard(population, apart))
        for hard, other in studies:
            arms = arms_of(hard, other)
            old += old_rule(arms).objective.kind != "hard"
            found = recommend(arms, simultaneous_level(others))
            new += found is not None and found.objective.kind != "hard"
        print(
            f"| {seeds} | {rows:,} | {others} | {apart:.3f} | "
            f"{percent(old / draws)} / {percent(new / draws)} |",
            flush=True,
        )


def other_scores(population: Population, draws: int) -> None:
    """Coverage of numbers that are no means of rows, of their expectation at that number of rows."""
    print(
        "\nIntervals of ε = 0.1 minus hard labels (of T: of hard labels), old / new (%): how many hold the "
        "mean over all draws\n"
    )
    names = ("brier", "ece", "smece", "aurc", "over_confidence", "temperature")
    print(f"| seeds | rows | {' | '.join(names)} |\n" + "|---" * (2 + len(names)) + "|")
    for seeds, rows in ((3, 360), (3, 1000), (5, 1000)):
        rng = np.random.default_rng([seeds, rows])
        found: dict[str, list[Crossed]] = {name: [] for name in names}
        for _ in range(draws):
            drawn, (test, validation) = (
                rng.integers(0, population.seeds, seeds),
                rng.integers(0, population.rows, (2, rows)),
            )
            of_arm = [scores_of(population, arm, drawn, test) for arm in (0, 2)]
            for name in names[:-1]:
                found[name].append(of_arm[1][name] - of_arm[0][name])
            found["temperature"].append(temperatures(population, drawn, validation))
        cells = []
        for crossed in found.values():
            truth = float(np.mean([one.mean for one in crossed]))
            rules = (lambda one: Crossed(one.values), lambda one: one)
            shares = [np.mean([holds(estimate(rule(one)), truth) for one in crossed]) for rule in rules]
            cells.append(" / ".join(percent(float(share)) for share in shares))
        print(f"| {seeds} | {rows:,} | " + " | ".join(cells) + " |", flush=True)


def scores_of(population: Population, arm: int, seeds: Places, test: Places) -> dict[str, Crossed]:
    tables = []
    for seed in seeds:
        logits, labels = population.logits[arm][seed][test].astype(np.float64), population.labels[test]
        smece = float(
            score_influences(logits, labels, 0.1)["smece"].mean()
        )  # one step of Newton's, and another
        tables.append(score_influences(logits, labels, max(smece, 0.0)))
    stacked = {name: np.stack([table[name] for table in tables]) for name in tables[0]}
    return {name: Crossed(table.mean(1), {"test": table}) for name, table in stacked.items()}


def temperatures(population: Population, seeds: Places, validation: Places) -> Crossed:
    values, tables, labels = [], [], population.labels[validation]
    for seed in seeds:
        logits = population.logits[0][seed][validation].astype(np.float64)
        values.append(TemperatureScaling().fit(logits, labels).temperature)
        tables.append(values[-1] * log_temperature_influence(logits, labels, values[-1]))
    return Crossed(np.array(values), {"validation": np.stack(tables)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("out", type=Path)
    training.add_argument("--data", required=True)
    training.add_argument("--rows", type=int, required=True)
    training.add_argument("--epochs", type=int, required=True)
    training.add_argument("--width", type=int, default=128)
    training.add_argument("--seeds", type=int, default=60)
    reporting = commands.add_parser("report")
    reporting.add_argument("folders", type=Path, nargs="+")
    reporting.add_argument("--draws", type=int, default=200)
    reporting.add_argument("--most-rows", type=int, default=8_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "train":
        train(options.out, options.data, options.rows, options.epochs, options.width, options.seeds)
        return
    for folder in options.folders:
        population = Population(folder, options.most_rows)
        for part in (coverage, false_recommendations, needless_temperatures, power):
            part(population, options.draws)
        other_scores(population, options.draws // 2)  # which take a hundred times as long


if __name__ == "__main__":
    main()
