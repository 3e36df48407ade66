"""Every kind of file that is read, written as people write them: the same rows come out of each."""

import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from labelsmooth.errors import InputError
from labelsmooth.predictions import Names, Predictions
from labelsmooth.predictions.formats import FORMATS

NAMES = ("setosa", "versicolor", "virginica")


@pytest.fixture(scope="module")
def iris():
    """Probabilities of a linear classifier of the irises, and their labels."""
    x, y = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=1000).fit(x[::2], y[::2]).predict_proba(x), y


def read(path, rows=None, **names):
    """Scores, labels and notes, by way of small blocks."""
    predictions = Predictions(path, Names(**names))
    scan = predictions.scan()
    predictions._rows_a_block = lambda: rows or 7
    batches = list(predictions.batches())
    scores = torch.cat([batch.scores for batch in batches]).double().numpy()
    return scores, torch.cat([batch.labels for batch in batches]).numpy(), scan.notes


def columns(probs, labels, names=range(3), prefix="prob_"):
    return pd.DataFrame({f"{prefix}{name}": probs[:, k] for k, name in enumerate(names)} | {"label": labels})


WRITERS = {
    ".csv": lambda frame, path: frame.to_csv(path),  # with the rows' numbers, in a column without a name
    "semicolon.csv": lambda frame, path: frame.to_csv(path, sep=";", index=False),
    ".tsv": lambda frame, path: frame.to_csv(path, sep="\t", index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path),
    ".feather": lambda frame, path: frame.to_feather(path, chunksize=40),
    "polars.csv": lambda frame, path: pl.from_pandas(frame).write_csv(path),
    "polars.parquet": lambda frame, path: pl.from_pandas(frame).write_parquet(path),
    "polars.feather": lambda frame, path: pl.from_pandas(frame).write_ipc(path, compression="zstd"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("classes", [range(3), NAMES])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_for_each_class(iris, tmp_path, kind, classes, as_text):
    probs, y = iris
    path = tmp_path / f"rows{kind}"
    labels = [str(classes[label]) for label in y] if as_text else y
    WRITERS[kind](columns(probs, labels, classes), path)
    scores, found, notes = read(path)
    np.testing.assert_array_equal(scores, probs)
    np.testing.assert_array_equal(found, y)
    if as_text and not (classes is not NAMES and kind.endswith(("csv", "tsv"))):  # where numbers are no text
        assert notes == (f"Its labels name the classes: {', '.join(map(str, classes))}.",)
    elif classes is NAMES:
        assert notes == ("Its labels count its columns in their order: setosa, versicolor, virginica.",)
    else:
        assert notes == ()


def test_columns_and_labels_that_count_from_1(iris, tmp_path):
    columns(iris[0], iris[1] + 1, range(1, 4), "proba_").to_csv(tmp_path / "a.csv", index=False)
    scores, labels, notes = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(scores, iris[0])
    np.testing.assert_array_equal(labels, iris[1])
    assert notes == ("Its labels count from 1, as its columns do.",)


def test_columns_without_a_prefix(iris, tmp_path):
    columns(*iris, prefix="").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match="it holds 0, 1, 2, label: name them with --logits '' or --probs ''"):
        read(tmp_path / "a.csv")
    np.testing.assert_array_equal(read(tmp_path / "a.csv", probs="")[0], iris[0])


def test_numbers_of_a_csv_that_begin_whole(tmp_path):
    """The kind of a column shows in its last row only, beyond the first block of the file."""
    lines = ["logit_a, logit_b, label", *["1, -2, 0"] * 300, "0.5, 1e-3, 1"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    scores, labels, _ = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(scores, [[1, -2]] * 300 + [[0.5, 1e-3]])
    assert labels.tolist() == [0] * 300 + [1]


def test_groups_of_a_csv_may_hold_commas(iris, tmp_path):
    frame = columns(*iris).assign(group=["1,5" if label else "a" for label in iris[1]])
    frame.to_csv(tmp_path / "a.csv", sep=";", index=False)
    np.testing.assert_array_equal(read(tmp_path / "a.csv")[0], iris[0])


def test_blocks_of_a_csv_are_small(iris, tmp_path, monkeypatch):
    from labelsmooth.predictions import csv

    monkeypatch.setattr(csv, "_BLOCK", 500)
    columns(*iris).to_csv(tmp_path / "a.csv", index=False)
    sizes = [batch.num_rows for batch in csv.CsvTable(tmp_path / "a.csv")._batches(["label"], 1000)]
    assert sum(sizes) == 150
    assert max(sizes) < 20
    np.testing.assert_array_equal(read(tmp_path / "a.csv", rows=1000)[0], iris[0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prob_0,prob_1,label\n0.5,0.5,0\n0.5,,1\n", "rows without a value in the column prob_1"),
        ("prob_0;prob_1;label\n0,25;0,75;0\n1;0;0\n", "with a decimal point, got 0,25 in prob_0$"),
        ('prob_0,prob_1,label\n"1,0","0,0",0\n', "with a decimal point, got 1,0 in prob_0$"),
        (
            "confidence,correct\n0.5,1\n",
            r"needs: in Python labelsmooth\.measure\.smece_of_scores\(confidence, correct\) gives",
        ),
        ("prob_0,prob_1,label\n0.5,0.5,0\n0.5,0.5\n", "is no .csv file, or is damaged"),
        ("prob_0,prob_1,label\n0.5,abc,0\n", "must hold numbers in prob_1, got text"),
        ("prob_0,prob_2,label\n0.1,0.9,1\n", "a column for each class, got prob_0, prob_2 without prob_1"),
        ("prob_0,prob_1,label\n", "holds no rows in prob"),
        ("prob_0,prob_0,label\n1,0,0\n", "has several columns with the name prob_0"),
        ("prob_0,prob_1,y_hat\n1,0,0\n", "holds no labels .* it holds prob_0, prob_1, y_hat: name them with --labels"),
        ("prob_0,prob_1,label\n0.5,0.5,\xff\n", "is no .csv file, or is damaged"),
        ("prob_a,prob_b,label\n0.5,0.5,a\n0.5,0.5,c\n", r"names of the classes \(a, b\) in label, got 'c' in row 1"),
    ],
)  # fmt: skip
def test_a_csv_that_is_wrong_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "a.csv")


def test_pairs_of_npy(iris, tmp_path):
    probs, y = iris
    np.save(tmp_path / "forest_probs.npy", np.asfortranarray(probs))
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "other.npy", probs)
    labels = str(tmp_path / "y.npy")
    scores, found, notes = read(tmp_path / "forest_probs.npy", labels=labels)
    np.testing.assert_array_equal(scores, probs)
    np.testing.assert_array_equal(found, y)
    assert notes == ()
    with pytest.raises(InputError, match="it holds array: name them with --logits NAME or --probs NAME"):
        read(tmp_path / "other.npy", labels=labels)
    np.testing.assert_array_equal(read(tmp_path / "other.npy", labels=labels, probs="array")[0], probs)
    with pytest.raises(InputError, match="it holds probs: name them with --labels NAME, or a file of them"):
        read(tmp_path / "forest_probs.npy")
    np.save(tmp_path / "y.npy", y[:-1])
    with pytest.raises(InputError, match="as many rows in .*y.npy as in probs, got 149 and 150"):
        read(tmp_path / "forest_probs.npy", labels=labels)


def test_labels_in_a_file_whose_blocks_are_others(iris, tmp_path):
    """A file of Arrow has blocks of its own sizes."""
    np.savez(tmp_path / "a.npz", probs=iris[0])
    columns(*iris)[["label"]].to_feather(tmp_path / "y.feather", chunksize=11)
    scores, labels, _ = read(tmp_path / "a.npz", labels=str(tmp_path / "y.feather"))
    np.testing.assert_array_equal(scores, iris[0])
    np.testing.assert_array_equal(labels, iris[1])


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize(
    ("saved", "names"),
    [
        (lambda p, y: {"probs": p, "labels": y}, {}),
        (lambda p, y: {"probs": p.requires_grad_(), "labels": y.tolist()}, {}),
        (lambda p, y: {"probs": p, "label": [NAMES[k] for k in y], "classes": list(NAMES)}, {}),
        (lambda p, y: {"epoch": 3, "y_prob": p.T.contiguous().T, "y_true": y, "state": {"w": p}}, {}),
        (lambda p, y: (p, y), {"probs": "0", "labels": "1"}),
    ],
)
def test_torch_files(iris, tmp_path, suffix, saved, names):
    probs, y = torch.from_numpy(iris[0]), torch.from_numpy(iris[1])
    torch.save(saved(probs.clone(), y), tmp_path / f"a{suffix}")
    scores, labels, _ = read(tmp_path / f"a{suffix}", **names)
    np.testing.assert_array_equal(scores, iris[0])
    np.testing.assert_array_equal(labels, iris[1])


def test_a_torch_file_of_one_tensor(iris, tmp_path):
    torch.save(torch.from_numpy(iris[0]).bfloat16(), tmp_path / "test-probs.pt")
    torch.save(torch.from_numpy(iris[1]), tmp_path / "labels.pt")
    scores, labels, _ = read(tmp_path / "test-probs.pt", labels=str(tmp_path / "labels.pt"))
    np.testing.assert_array_equal(scores, torch.from_numpy(iris[0]).bfloat16().double().numpy())
    np.testing.assert_array_equal(labels, iris[1])


class Trap:
    def __reduce__(self):
        return refuse_to_unpickle, ()


def refuse_to_unpickle(*_):
    raise AssertionError("something was unpickled")


def test_torch_files_that_are_refused(iris, tmp_path):
    y = torch.from_numpy(iris[1])
    for saved, sentence in (
        (Trap(), r"holds more than tensors, .*: torch\.save\(\{'logits': logits, 'labels': labels\}, 'a\.pt'\)"),
        ({"logits": torch.zeros(1).expand(10**12, 3), "labels": y}, r"announces the shape \(10{12}, 3\) in logits and holds fewer"),
        ({"logits": torch.eye(150).to_sparse(), "labels": y}, "must hold floats in logits, got torch.float32 of another layout"),
        ({"logits": torch.zeros(150, 3, dtype=torch.cfloat), "labels": y}, "must hold floats in logits, got complex64"),
        ({"weight": torch.zeros(3, 4), "epoch": 3}, "neither logits .* it holds weight, epoch"),
        (3, "must hold tensors, got a int"),
    ):  # fmt: skip
        torch.save(saved, tmp_path / "a.pt")
        with pytest.raises(InputError, match=sentence):
            read(tmp_path / "a.pt")
    for saved in ({"logits": torch.from_numpy(iris[0]).log(), "labels": y},):
        torch.save(saved, tmp_path / "a.pt")
        whole = (tmp_path / "a.pt").read_bytes()
        for content in (whole[:-1], whole[: len(whole) // 2], b"\0" * 4096, b"hello\n"):
            (tmp_path / "a.pt").write_bytes(content)
            with pytest.raises(InputError, match=r"is no \.pt file|holds more than tensors"):
                read(tmp_path / "a.pt")


def test_a_torch_file_whose_pickle_ends_early(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02X\x01")  # a text, whose length of four bytes is cut short
        archive.writestr("a/version", b"3\n")
    with pytest.raises(InputError, match=r"is no \.pt file, or is damaged"):
        Predictions(tmp_path / "a.pt", Names())


def test_offsets_of_a_feather_that_lead_out_of_it(tmp_path):
    """Lists whose offsets were altered; Arrow itself would read beyond the file."""
    lists = pa.array([[1.0, 2.0]] * 50)
    with pa.OSFile(str(tmp_path / "a.feather"), "wb") as sink:
        table = pa.table({"logits": lists, "labels": [0] * 50})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    content = (tmp_path / "a.feather").read_bytes()
    offsets = np.arange(0, 102, 2, dtype=np.int32).tobytes()
    assert content.count(offsets) == 1
    altered = np.arange(0, 102, 2, dtype=np.int32)
    altered[25] = 2**30
    (tmp_path / "a.feather").write_bytes(content.replace(offsets, altered.tobytes()))
    with pytest.raises(InputError, match=r"is no \.feather file, or is damaged"):
        read(tmp_path / "a.feather")


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_that_are_none_of_their_kind(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for content in (b"\0" * 4096, bytes(range(256)) * 8, b"hello\n", b"\n", b"PK\5\6" + bytes(18)):
        path.write_bytes(content)
        with pytest.raises(InputError):
            read(path)
