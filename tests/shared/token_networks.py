"""What tests of networks that predict tokens do alike."""

from torch.nn import functional as F

from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study.engines.placement import Placement


def logits_of(network, batch):
    """The logits (N, K) of the tokens of a batch that count."""
    return F.linear(*network(batch.inputs, batch.labels))


def save_network(network, vocabulary, folder):
    """Save a network with its vocabulary, and give the name of the model."""
    network.body.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(vocabulary.json, encoding="utf-8")
    return f"hf:{folder}"


class Half(Placement):
    """One of two processes that train together."""

    processes = 2

    def __init__(self, rank):
        self.rank = rank


def losses_of_halves(task, config, data, batch):
    """The mean loss of a batch in one process, and in each of two."""
    network = task.new_network(config, data.summary).eval()  # dropout differs between processes
    losses = []
    for placement in (Placement(), Half(0), Half(1)):
        session = task.begin(config, data, network, placement)
        facts = TrainingFacts(class_counts=session.class_counts, steps=session.steps)
        criterion = Objective.parse(config.objective).criterion(facts)
        loss, rows = session.loss(network, batch, criterion, None)
        assert rows == batch.rows
        loss.value.backward()
        losses.append(float(loss.value.detach()))
    return losses
