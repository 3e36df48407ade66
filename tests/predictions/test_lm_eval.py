"""Logs that lm-evaluation-harness 0.4.13 wrote, against its own results, and logs that are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from labelsmooth.errors import InputError
from labelsmooth.predictions import LmEvalTable, Names, Predictions, find_logs, require_same_documents

LOGS = Path(__file__).parents[1] / "fixtures" / "lm_eval"
RESULTS = json.loads((LOGS / "results.json").read_text())


def log_of(model, task):
    (path,) = (LOGS / model).glob(f"samples_{task}_*.jsonl")
    return path


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(folder, **options):
    ((path, logs),) = find_logs([folder]).items()
    return LmEvalTable(path, logs, **options)


def arrays(table):
    (block,) = table.blocks(["logits", "labels", "groups"], 10**6)
    return block["logits"], block["labels"], block["groups"]


@pytest.mark.parametrize("model", ["base", "sft", "sft-smoothed"])
@pytest.mark.parametrize(("per_character", "metric"), [(False, "acc,none"), (True, "acc_norm,none")])
def test_the_accuracy_is_that_of_the_harness(model, per_character, metric):
    logits, labels, tasks = arrays(table(LOGS / model, per_character=per_character))
    assert sorted(set(tasks)) == ["cloze_english", "cloze_german"]
    for task in set(tasks):
        right = (logits.argmax(-1) == labels)[tasks == task]
        assert len(right) == RESULTS[model][task]["sample_len"]
        assert right.mean() == RESULTS[model][task][metric]


def test_rows_are_the_log_likelihoods_in_the_order_of_tasks_and_documents():
    logits, labels, tasks = arrays(table(LOGS / "sft"))
    row = 0
    for task in ("cloze_english", "cloze_german"):
        for line in lines_of(log_of("sft", task)):
            values = [float(value) for value, _ in line["filtered_resps"]]
            assert logits[row].tolist() == values + [-np.inf] * (5 - len(values))
            assert (
                line["doc"]["choices"][labels[row]]
                == line["arguments"][f"gen_args_{labels[row]}"]["arg_1"][1:]
            )
            assert line["doc"]["answer"] in (labels[row], line["doc"]["choices"][labels[row]])
            assert tasks[row] == task
            row += 1
    assert row == len(logits) == 48


def test_blocks_are_the_rows_and_predictions_read_them():
    opened = table(LOGS / "base")
    whole = arrays(opened)[0]
    blocks = [block["logits"] for block in opened.blocks(["logits"], 7)]
    assert [len(block) for block in blocks] == [7] * 6 + [6]
    assert np.array_equal(np.concatenate(blocks), whole)
    predictions = Predictions(opened, Names())
    assert (predictions.num_classes, predictions.are_probs, predictions.scan().groups) == (
        5,
        False,
        ("cloze_english", "cloze_german"),
    )


def written(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_numbers_and_lists_in_place_of_texts_and_another_order(tmp_path):
    """As earlier versions and several processes write them."""
    lines = lines_of(log_of("sft", "cloze_german"))
    for line in lines:
        line["filtered_resps"] = [
            [float(value), greedy == "True"] for value, greedy in line["filtered_resps"]
        ]
        line["arguments"] = [list(request.values()) for request in line["arguments"].values()]
        line["target"] = line["doc"]["choices"].index(line["doc"]["answer"])
    log = written(tmp_path / "samples_cloze_german.jsonl", lines[::-1])
    for found, expected in zip(
        arrays(LmEvalTable(tmp_path, [log])),
        arrays(LmEvalTable(LOGS, [log_of("sft", "cloze_german")])),
        strict=True,
    ):
        assert np.array_equal(found, expected)


def test_options_without_their_question_are_left_out():
    log = log_of("other", "mutual_english")
    logits, labels, _ = arrays(LmEvalTable(LOGS, [log]))
    assert np.isfinite(logits).sum(-1).tolist() == [len(line["doc"]["choices"]) for line in lines_of(log)]
    assert (logits.argmax(-1) == labels).mean() == RESULTS["other"]["mutual_english"]["acc,none"]


def test_options_that_stand_in_the_question_have_the_right_one_by_the_accuracy():
    log = log_of("other", "wino_english")
    logits, labels, _ = arrays(LmEvalTable(LOGS, [log]))
    assert labels.tolist() == [len(line["doc"]["text"]) % 2 for line in lines_of(log)]  # as the task says
    assert (logits.argmax(-1) == labels).mean() == RESULTS["other"]["wino_english"]["acc,none"]


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("gen_english", "line 1 must hold two options or more in filtered_resps, .* as multiple-choice tasks do, got"),
        ("multi_english", r"line 1 must hold the index or the text of one option in target, got '\[0, 1\]'"),
    ],
)  # fmt: skip
def test_tasks_without_one_right_option(task, sentence):
    with pytest.raises(InputError, match=sentence):
        LmEvalTable(LOGS, [log_of("other", task)])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"filtered_resps": None}, "two options or more in filtered_resps, .* got null"),
        ({"filtered_resps": [["-1.5", "False"]]}, "two options or more"),
        ({"filtered_resps": [[-1.5, False], ["x", False]]}, "two options or more"),
        ({"filtered_resps": [[-1.5, False], [-(10**400), False]]}, "two options or more"),
        ({"filtered_resps": [["nan", False], [-1.0, False]]}, "log-likelihoods in filtered_resps, .* got"),
        ({"filtered_resps": [["-inf", False], ["-inf", False]]}, "log-likelihoods in filtered_resps, .* got"),
        (
            {"filtered_resps": [["1e-3", False], ["-1.0", False]]},
            "log-likelihoods in filtered_resps, none above 0",
        ),
        ({"target": "2"}, r"a target in 0\.\.1, got 2"),
        ({"target": -1}, r"a target in 0\.\.1, got -1"),
        ({"target": "somewhere else"}, "the index or the text of one option in target, got 'somewhere else'"),
        ({"target": "somewhere else", "arguments": 3}, "the text of each option in arguments, got 3"),
        ({"target": "0"}, "the acc of its target 0, got 1.0"),
        ({"acc": 0.5}, "the acc of its target 1, got 0.5"),
        ({"doc_id": "a"}, "a number in doc_id, got 'a'"),
    ],
)
def test_lines_that_are_refused(tmp_path, change, sentence):
    lines = lines_of(log_of("sft", "cloze_english"))
    log = written(tmp_path / "samples_cloze.jsonl", [lines[1], lines[0] | change])
    with pytest.raises(InputError, match=f"samples_cloze.jsonl line 2 must hold {sentence}"):
        LmEvalTable(tmp_path, [log])


@pytest.mark.parametrize("missing", ["doc_id", "filtered_resps", "target"])
def test_what_a_line_lacks_is_named(tmp_path, missing):
    line = lines_of(log_of("sft", "cloze_english"))[0]
    del line[missing]
    with pytest.raises(InputError, match=f"line 1 has no {missing}: .* with --log_samples"):
        LmEvalTable(tmp_path, [written(tmp_path / "a.jsonl", [line])])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "a.jsonl holds no documents"),
        (b"\n \n", "a.jsonl holds no documents"),
        (b'{"doc_id": 0, ', "a.jsonl line 1 is no JSON"),
        (b"[1]\n", "a.jsonl line 1 must hold a document, got list"),
        (b"[" * 100_000, "a.jsonl line 1 is no JSON"),
        (b'{"doc_id": "\xff"}', "a.jsonl is no .jsonl file, or is damaged"),
    ],
)
def test_files_that_are_no_logs(tmp_path, content, sentence):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        LmEvalTable(tmp_path, [tmp_path / "a.jsonl"])


def test_a_document_twice(tmp_path):
    lines = lines_of(log_of("sft", "cloze_english"))
    twice = written(tmp_path / "a.jsonl", [*lines, lines[3]])
    with pytest.raises(InputError, match="each document once, got document 3 again"):
        LmEvalTable(tmp_path, [twice])


def test_of_several_runs_of_a_task_the_newest_counts(tmp_path):
    """By the time in its name, whatever the time of the file."""
    runs = {
        "_2026-11-30T09-00-00": log_of("sft", "cloze_english"),
        "_2026-11-29T21-34-00.528525": log_of("base", "cloze_english"),
        "": log_of("base", "cloze_english"),
    }
    for time, log in runs.items():
        shutil.copy(log, tmp_path / f"samples_cloze_english{time}.jsonl")
    shutil.copy(log_of("sft", "cloze_german"), tmp_path)
    found = table(tmp_path)
    assert np.array_equal(arrays(found)[0], arrays(table(LOGS / "sft"))[0])
    assert found.notes[1:] == (
        "Of several runs of a task the newest is taken: cloze_english of 2026-11-30T09-00-00.",
    )
    log = tmp_path / "samples_cloze_english.jsonl"
    assert len(LmEvalTable(tmp_path, [log, log]).notes) == 1  # it is one run


def test_tasks_of_another_kind_are_left_out(tmp_path):
    whole = table(LOGS / "other")
    assert sorted(set(arrays(whole)[2])) == ["mutual_english", "wino_english"]
    assert whole.notes[1:] == (
        "Left out, as they ask for no choice of the one right option: gen_english, multi_english.",
    )
    for task in ("gen_english", "multi_english"):
        shutil.copy(log_of("other", task), tmp_path)
    with pytest.raises(InputError, match="must hold a log of a multiple-choice task, got none: .* line 1"):
        table(tmp_path)


def test_a_log_of_several_kinds_is_damaged(tmp_path):
    lines = lines_of(log_of("sft", "cloze_english"))[:3] + lines_of(log_of("other", "gen_english"))[3:]
    written(tmp_path / "samples_mixed.jsonl", lines)
    shutil.copy(log_of("sft", "cloze_german"), tmp_path)
    with pytest.raises(InputError, match="samples_mixed.jsonl line 4 must hold two options or more"):
        table(tmp_path)


def test_a_log_may_begin_with_a_byte_order_mark(tmp_path):
    log = log_of("sft", "cloze_english")
    (tmp_path / log.name).write_bytes(b"\xef\xbb\xbf" + log.read_bytes())
    assert np.array_equal(arrays(table(tmp_path))[0], arrays(LmEvalTable(LOGS, [log]))[0])


def test_an_empty_option_has_no_characters(tmp_path):
    line = lines_of(log_of("sft", "cloze_english"))[0]
    line["arguments"]["gen_args_0"]["arg_1"] = " "
    log = written(tmp_path / "a.jsonl", [line])
    with pytest.raises(InputError, match="options of some characters, got an empty one"):
        LmEvalTable(tmp_path, [log], per_character=True)


def test_logs_of_a_folder_are_those_of_a_model(tmp_path, monkeypatch):
    assert [path.name for path in find_logs([LOGS / "sft", LOGS / "base"])] == ["sft", "base"]
    files = [log_of("base", "cloze_english"), log_of("sft", "cloze_english"), log_of("base", "cloze_german")]
    assert find_logs(files) == {LOGS / "base": [files[0], files[2]], LOGS / "sft": [files[1]]}
    with pytest.raises(
        InputError, match="must hold logs samples_TASK_TIME.jsonl of lm-evaluation-harness, or"
    ):
        find_logs([tmp_path])
    with pytest.raises(InputError, match=r"there is no file nowhere\.jsonl"):
        LmEvalTable(tmp_path, [Path("nowhere.jsonl")])
    monkeypatch.chdir(tmp_path)
    assert list(find_logs([Path("a.jsonl")])) == [tmp_path]


def test_a_model_lies_in_a_folder_of_its_output_path(tmp_path):
    """As `--output_path results/sft` makes the harness write results/sft/my__model/samples_….jsonl."""
    shutil.copytree(LOGS / "sft", tmp_path / "sft" / "my__model")
    shutil.copy(LOGS / "results.json", tmp_path / "sft" / "my__model" / "results_2026-11-29T21-36-23.json")
    ((path, logs),) = find_logs([tmp_path / "sft"]).items()
    assert path == tmp_path / "sft"
    assert [log.name for log in logs] == sorted(log.name for log in (LOGS / "sft").iterdir())
    shutil.copytree(LOGS / "base", tmp_path / "sft" / "base__model")
    with pytest.raises(
        InputError, match=r"folders of several, .* named by itself: .*sft/base__model, .*sft/my__model$"
    ):
        find_logs([tmp_path / "sft"])


def test_models_that_answered_other_questions(tmp_path):
    whole = table(LOGS / "sft")
    require_same_documents(whole, table(LOGS / "base"))
    shutil.copytree(LOGS / "sft", tmp_path / "less")
    log = next((tmp_path / "less").glob("*german*"))
    lines = lines_of(log)
    written(log, [line for line in lines if line["doc_id"] != 5])
    with pytest.raises(
        InputError,
        match="less must hold the documents of .*sft, got document 5 of cloze_german in .*sft alone",
    ):
        require_same_documents(table(tmp_path / "less"), whole)
    written(log, [line | {"doc_hash": "0"} if line["doc_id"] == 7 else line for line in lines])
    with pytest.raises(InputError, match="got another text in document 7 of cloze_german"):
        require_same_documents(table(tmp_path / "less"), whole)
