"""`labelsmooth identify`: the page, JSON, exit statuses and what is refused."""

import json

import pytest

from labelsmooth.cli import main

TORCH = [
    "identify",
    "torch.nn:CrossEntropyLoss",
    "--kwargs",
    '{"label_smoothing": 0.1}',
    "--classes",
    "3",
    "10",
]
OWN = """
import torch.nn.functional as F

def wrong(logits, labels, eps):
    log_p = logits.log_softmax(-1)
    nll = -log_p.gather(-1, labels[:, None])[:, 0]
    return ((1 - eps) * nll - eps * log_p.sum(-1)).mean()

def raising(logits, labels):
    raise KeyError("labels")

not_callable = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_losses_to_identify.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    return "own_losses_to_identify"


def test_a_right_loss_exits_0(capsys):
    assert main(TORCH) == 0
    verdict, *page = capsys.readouterr().out.splitlines()
    assert verdict.startswith("softmax: uniform at eps 0.1, as torch, timm,")
    assert "loss       CrossEntropyLoss" in page


def test_a_wrong_loss_exits_1(own, capsys):
    assert main(["identify", f"{own}:wrong", "--kwargs", '{"eps": 0.2}', "--classes", "3", "10"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("softmax: no published convention, eps 0.2; 1 fault")
    assert "FAULT: sum over classes." in out


def test_json(own, capsys):
    assert main(["identify", f"{own}:wrong", "--kwargs", '{"eps": 0.2}', "--classes", "3", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == f"{own}:wrong"
    assert (document["right"], document["convention"], document["eps"]) == (False, None, 0.2)
    assert document["departures"][0]["name"] == "sum over classes"
    assert set(document["target"]["3"]) == {"on_class", "on_other", "sum"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "the loss must be named as module:name, got 'nowhere'"),
        (["no_such_module:loss"], "there is no module no_such_module for the loss no_such_module:loss"),
        (["{own}:missing"], "the module of the loss {own}:missing has no function missing"),
        (["{own}:not_callable"], "the module of the loss {own}:not_callable has no function not_callable"),
        (["{own}:raising"], "it raised KeyError: 'labels'"),
        (["{own}:wrong"], "missing 1 required positional argument: 'eps'"),
        (["{own}:wrong", "--kwargs", "{"], "--kwargs must be an object of JSON, got '{'"),
        (["{own}:wrong", "--kwargs", "[1]"], "--kwargs must be an object of JSON, got '[1]'"),
        (
            ["torch.nn:CrossEntropyLoss", "--kwargs", '{"smoothing": 1}'],
            "unexpected keyword argument 'smoothing'",
        ),
        (["torch:relu", "--clases", "3"], "there is no option --clases, did you mean --classes?"),
        (["torch:relu", "--classes", "1"], "there must be at least 2 classes, got 1"),
    ],
)
def test_bad_input_exits_2(arguments, says, own, capsys):
    assert main(["identify", *(argument.replace("{own}", own) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert says.replace("{own}", own) in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["identify", "--help"])
    assert stop.value.code == 0
    assert "MODULE:NAME" in capsys.readouterr().out
