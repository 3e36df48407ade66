"""Reading predictions: three kinds of files, every way to write them, and one sentence for what is wrong with one."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from labelsmooth.errors import InputError
from labelsmooth.predictions import Names, Predictions

ROWS, CLASSES = 300, 10


@pytest.fixture(scope="module")
def digits():
    """The logits of a linear classifier on rows of the digits that it was not fitted on, and their labels."""
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(x[ROWS:] / 16, y[ROWS:])
    return model.decision_function(x[:ROWS] / 16).astype(np.float32), y[:ROWS].astype(np.int64)


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def lists(values):
    return pa.array(list(values))


def fixed_lists(values):
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def numbered(prefix, values):
    return {f"{prefix}{k}": values[:, k] for k in range(values.shape[1])}


def write(path, **arrays):
    """A file of the kind that the suffix names."""
    match path.suffix:
        case ".npz":
            np.savez(path, **arrays)
        case ".safetensors":
            save_file({name: torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}, path)
        case ".parquet":
            columns = {name: fixed_lists(a) if np.ndim(a) == 2 else a for name, a in arrays.items()}
            pq.write_table(pa.table(columns), path)
    return path


def read(path, names=None):
    """All rows: scores, labels, and what stands beside them, by way of small blocks."""
    predictions = Predictions(path, names or Names())
    predictions.scan()
    predictions._rows_a_block = lambda: 7
    batches = list(predictions.batches())
    assert all(len(batch.labels) <= 7 for batch in batches)
    return predictions, batches


def scores_of(batches):
    return torch.cat([batch.scores for batch in batches]).double().numpy()


def labels_of(batches):
    return torch.cat([batch.labels for batch in batches]).numpy()


def check(path, logits, labels):
    predictions, batches = read(path)
    assert (predictions.rows, predictions.num_classes) == logits.shape
    np.testing.assert_array_equal(scores_of(batches), logits.astype(np.float64))
    np.testing.assert_array_equal(labels_of(batches), labels)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("label_dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_every_kind_and_dtype(digits, tmp_path, suffix, dtype, label_dtype):
    logits, labels = digits[0].astype(dtype), digits[1].astype(label_dtype)
    check(write(tmp_path / f"a{suffix}", logits=logits, labels=labels), logits, labels)


def test_bfloat16(digits, tmp_path):
    logits = torch.from_numpy(digits[0]).bfloat16()
    save_file({"logits": logits, "labels": torch.from_numpy(digits[1])}, tmp_path / "a.safetensors")
    predictions, batches = read(tmp_path / "a.safetensors")
    assert batches[0].scores.dtype == torch.bfloat16
    assert predictions.rows == ROWS
    np.testing.assert_array_equal(scores_of(batches), logits.double().numpy())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "stored", [np.asfortranarray, lambda a: a.astype(">f4"), lambda a: a.astype(">f8").T.copy().T]
)
def test_npz_by_columns_and_from_other_machines(digits, tmp_path, save, stored):
    save(tmp_path / "a.npz", logits=stored(digits[0]), labels=digits[1].astype(">i4"))
    check(tmp_path / "a.npz", *digits)


@pytest.mark.parametrize(
    "columns", [lists, fixed_lists, lambda a: lists(a).cast(pa.large_list(pa.float32()))]
)
@pytest.mark.parametrize("row_group", [50, None])
def test_parquet_lists(digits, tmp_path, columns, row_group):
    table = pa.table({"logits": columns(digits[0]), "target": digits[1]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=row_group)
    check(tmp_path / "a.parquet", *digits)


@pytest.mark.parametrize("prefix", ["logit_", "logits_", "logit"])
def test_parquet_with_a_column_for_each_class(digits, tmp_path, prefix):
    shuffled = dict(reversed(numbered(prefix, digits[0]).items()))
    pq.write_table(pa.table({"y_true": digits[1], **shuffled}), tmp_path / "a.parquet")
    check(tmp_path / "a.parquet", *digits)


def test_groups_weights_and_features(digits, tmp_path):
    logits, labels = digits
    groups = np.where(labels < 5, "low", "high")
    more = {"group": groups, "sample_weight": np.arange(1, ROWS + 1), "features": logits[:, :4]}
    for path in (
        write(tmp_path / "a.npz", logits=logits, labels=labels, **more, classifier_weight=logits[:10, :4]),
    ):
        predictions, batches = read(path)
        assert predictions.scan().groups == ("high", "low")
        np.testing.assert_array_equal(np.concatenate([batch.groups for batch in batches]), groups)
        np.testing.assert_array_equal(
            torch.cat([batch.weights for batch in batches]).numpy(), np.arange(1, ROWS + 1)
        )
        np.testing.assert_array_equal(torch.cat([batch.features for batch in batches]).numpy(), logits[:, :4])
        weight, bias = predictions.classifier()
        assert (weight.shape, bias.shape, float(bias.abs().sum())) == ((10, 4), (10,), 0)
    dictionary = pa.array(groups).dictionary_encode()
    pq.write_table(
        pa.table({"logits": lists(logits), "y": labels, "groups": dictionary}), tmp_path / "a.parquet"
    )
    _, batches = read(tmp_path / "a.parquet")
    np.testing.assert_array_equal(np.concatenate([batch.groups for batch in batches]), groups)


def test_names_that_are_given(digits, tmp_path):
    path = write(tmp_path / "a.npz", z=digits[0], p=softmax(digits[0]), logits=digits[0] + 1, c=digits[1])
    predictions, batches = read(path, Names(logits="z", labels="c"))
    np.testing.assert_array_equal(scores_of(batches), digits[0])
    assert not predictions.are_probs
    predictions, batches = read(path, Names(probs="p", labels="c"))
    assert predictions.are_probs
    np.testing.assert_array_equal(scores_of(batches), softmax(digits[0]))


def test_what_a_file_of_many_columns_holds_is_not_listed_in_full(tmp_path):
    path = write(tmp_path / "m.npz", **{f"c{k}": np.zeros(3) for k in range(30)})
    with pytest.raises(
        InputError, match="it holds c0, .*, c19 and 10 more: name them with --logits NAME or --probs NAME$"
    ):
        Predictions(path, Names())


def test_validation_rows_are_of_the_kind_of_the_others(digits, tmp_path):
    path = write(
        tmp_path / "m.npz",
        probs=softmax(digits[0]),
        labels=digits[1],
        validation_logits=digits[0][:90],
        validation_probs=softmax(digits[0][:90]),
        validation_labels=digits[1][:90],
    )
    validation = Predictions(path, Names()).own_validation()
    assert validation.are_probs
    np.testing.assert_array_equal(scores_of(validation.batches()), softmax(digits[0][:90]))


def test_a_file_of_a_study_holds_its_own_validation_rows(digits, tmp_path):
    path = write(
        tmp_path / "arrays.npz",
        validation_logits=digits[0][:90],
        validation_labels=digits[1][:90],
        test_logits=digits[0][90:],
        test_labels=digits[1][90:],
        validation_features=digits[0][:20],
        validation_feature_labels=digits[1][:20],
        classifier_weight=digits[0][:10],
    )
    predictions = Predictions(path, Names())
    validation = predictions.own_validation()
    assert (predictions.rows, validation.rows) == (210, 90)
    np.testing.assert_array_equal(scores_of(validation.batches()), digits[0][:90])
    assert (
        Predictions(write(tmp_path / "b.npz", logits=digits[0], y=digits[1]), Names()).own_validation()
        is None
    )


def with_value(array, value, at):
    array = array.copy()
    array[at] = value
    return array


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda z, y: {"logits": with_value(z, NAN, (123, 4)), "labels": y}, r"without NaN or \+inf .* in row 123"),
        (lambda z, y: {"logits": with_value(z, INF, (7, 0)), "labels": y}, "largest value of inf in row 7"),
        (lambda z, y: {"logits": with_value(z, -INF, 299), "labels": y}, "not all of them -inf, .* in row 299"),
        (lambda z, y: {"logits": z, "labels": with_value(y, 10, 250)}, r"labels in 0\.\.9 in labels, got 10 in row 250"),
        (lambda z, y: {"logits": z, "labels": with_value(y, -1, 3)}, r"labels in 0\.\.9 in labels, got -1 in row 3"),
        (lambda z, y: {"logits": z, "labels": y + 0.5}, r"must hold whole numbers in labels, got \d\.5 in row 0"),
        (lambda z, y: {"logits": z, "labels": with_value(y.astype(float), NAN, 8)}, "whole numbers in labels, got nan in row 8"),
        (lambda z, y: {"logits": z, "labels": with_value(y, 255, 6)}, r"got 255 in row 6 \(--ignore-label 255 leaves such rows out\)"),
        (lambda z, y: {"logits": z.astype(int), "labels": y}, "must hold floats in logits, got integer"),
        (lambda z, y: {"logits": z[:, :1], "labels": y}, r"labels in 0\.\.1 in labels, got \d in row"),
        (lambda z, y: {"logits": softmax(z)[:, 0], "labels": y % 2}, r"every row lies in 0\.\.1; name them with --probs logits"),
        (lambda z, y: {"logits": softmax(z), "labels": y}, "holds probabilities in logits, .* with --probs logits"),
        (lambda z, y: {"probs": z, "labels": y}, r"each row in 0\.\.1 and summing to 1, got values in -.* in row 0"),
        (lambda z, y: {"probs": softmax(z) * 0.9, "labels": y}, "with a sum of 0.9 in row 0"),
        (lambda z, y: {"probs": with_value(softmax(z), NAN, (9, 1)), "labels": y}, "a sum of nan in row 9"),
        (lambda z, y: {"scores": z, "labels": y}, "neither logits .* nor probabilities .* it holds scores, labels|labels, scores"),
        (lambda z, y: {"logits": z}, "holds no labels .* it holds logits"),
        (lambda z, y: {"logits": z, "labels": y, "y": y}, "holds labels and y: say which are the labels with --labels NAME"),
        (lambda z, y: {"logits": z, "probs": softmax(z), "y": y}, "logits in logits and probabilities in probs: name"),
        (lambda z, y: {"logits": z, "labels": y, "weights": with_value(z[:, 0], -1, 5)}, "weights in weights that are finite and at least 0, got -"),
        (lambda z, y: {"logits": z, "labels": y, "groups": z[:, 0]}, "integers or text in groups, got float"),
        (lambda z, y: {"logits": z, "labels": y, "features": with_value(z, NAN, (4, 4))}, "finite numbers in features, .* row 4"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(digits, tmp_path, suffix, change, sentence):
    path = write(tmp_path / f"wrong{suffix}", **change(*digits))
    with pytest.raises(InputError, match=sentence) as raised:
        read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda z, y: {"logits": z, "labels": y[:-1]}, "as many rows in labels as in logits, got 299 and 300"),
        (lambda z, y: {"logits": z, "labels": y, "weights": z[:4, 0]}, "as many rows in weights as in logits, got 4 and 300"),
        (lambda z, y: {"logits": z[:0], "labels": y[:0]}, "holds no rows in logits"),
        (lambda z, y: {"logits": z, "labels": z[:, :4]}, r"one value for each row in labels, got the shape \(300, 4\) beside"),
        (lambda z, y: {"logits": z[:, :0], "labels": y}, r"must hold \(N, K\) values in logits, got the shape \(300, 0\)"),
        (lambda z, y: {"logits": z[0, 0], "labels": y}, r"must hold \(N, K\) values in logits, got the shape \(\)"),
        (lambda z, y: {"logits": z, "labels": y, "features": z, "classifier_weight": z[:10, :3]}, r"the shape \(10, 10\) in classifier_weight"),
    ],
)  # fmt: skip
def test_lengths_and_shapes_that_differ(digits, tmp_path, suffix, change, sentence):
    path = write(tmp_path / f"wrong{suffix}", **change(*digits))
    with pytest.raises(InputError, match=sentence):
        read(path)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (lambda z, y: {"logits": pa.array([*z[:-1].tolist(), [1.0, 2.0]]), "y": y}, "lists of equal length .*, got 10 and 2"),
        (lambda z, y: {"logits": pa.array([*z[:-1].tolist(), None]), "y": y}, "rows without a value in the column logits"),
        (lambda z, y: {"logits": pa.array([*z[:-1].tolist(), [None] * 10]), "y": y}, "lists with missing values"),
        (lambda z, y: {"logits": lists(z), "y": pa.array([*y[:-1].tolist(), None])}, "rows without a value in the column y"),
        (lambda z, y: {"logits": lists(z)[:0], "y": y[:0]}, "holds no rows"),
        (lambda z, y: {"logits": lists(z), "y": pa.array(map("c{}".format, y % 7))}, "names of the 10 classes in their order, .* text with 7 values"),
        (lambda z, y: {**numbered("logit_", z[:, :4]), "logit_7": z[:, 4], "y": y}, "a column for each class, got .* without logit_4"),
    ],
)  # fmt: skip
def test_parquet_that_is_ragged(digits, tmp_path, columns, sentence):
    pq.write_table(pa.table(columns(*digits)), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "a.parquet")


def refuse_to_unpickle(*_):
    raise AssertionError("something was unpickled")


class Trap:
    def __reduce__(self):
        return refuse_to_unpickle, ()


def test_a_pickle_in_an_npz_is_never_read(digits, tmp_path):
    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "a.npz", logits=digits[0], labels=digits[1], note=trap)
    np.savez(tmp_path / "b.npz", logits=trap, labels=digits[1])
    for name in "ab":
        with pytest.raises(InputError, match=r"holds Python objects in \w+\.npy, which are never read"):
            read(tmp_path / f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:  # as numpy would unpickle it: no header at all
        archive.writestr("logits.npy", pickle.dumps(Trap()))
    with pytest.raises(InputError, match="must hold plain arrays, logits.npy is none"):
        read(tmp_path / "c.npz")


def npy(shape, content=b"", descr="<f4", fortran=False):
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + content


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize(
    "shape", [(10**12, 10), (10, 10**12), (2**62, 2**62), (10**30, 2), (-1, 10), (10,), (10, 11)]
)
def test_headers_that_lie_allocate_nothing(tmp_path, shape, method, fortran):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("logits.npy", npy(shape, bytes(400), fortran=fortran))
        archive.writestr("labels.npy", npy((10,), bytes(80), "<i8"))
    with pytest.raises(InputError, match="announces"):
        read(tmp_path / "a.npz")


def safetensors_bytes(header, content=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + content


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        struct.pack("<Q", 2**60) + b"{}",
        safetensors_bytes(b"{"),
        safetensors_bytes(
            {"logits": {"dtype": "F32", "shape": [10**12, 10], "data_offsets": [0, 400]}}, bytes(400)
        ),
        safetensors_bytes(
            {"logits": {"dtype": "F32", "shape": [10, 10], "data_offsets": [0, 400]}}, bytes(399)
        ),
        safetensors_bytes({"logits": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}),
        safetensors_bytes({"logits": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    ],
)
def test_safetensors_that_lie(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is no \.safetensors file, or is damaged"):
        read(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_files_that_are_none(digits, tmp_path, suffix):
    whole = write(tmp_path / f"whole{suffix}", logits=digits[0], labels=digits[1]).read_bytes()
    path = tmp_path / f"a{suffix}"
    for content in (whole[:-1], whole[: len(whole) // 2], whole[len(whole) // 2 :], b"\0" * 4096, b"hello\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged|cut short|no \\.npz"):
            read(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        read(path)
    path.unlink()
    with pytest.raises(InputError, match="there is no file"):
        read(path)
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read(path)


def test_a_suffix_that_is_not_known(tmp_path):
    for suffix, recipe in (
        ("h5", r"np\.savez\('a\.npz', probs=probs, labels=labels\)"),
        ("pkl", r"a pickle can run code and is never read; .* np\.savez\('a\.npz'"),
        (
            "jsonl",
            r"pd\.read_json\('a\.jsonl', lines=True\)\.to_parquet\('a\.parquet'\) writes one, and --lm-eval reads logs",
        ),
    ):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(pickle.dumps(Trap()))
        with pytest.raises(InputError, match=rf"must end in \.npz, .*\.csv or \.tsv: {recipe}"):
            read(path)


def test_a_checksum_that_fails(digits, tmp_path):
    path = write(tmp_path / "a.npz", logits=digits[0], labels=digits[1])
    content = bytearray(path.read_bytes())
    content[2000] ^= 1  # among the logits, where any bits are a number
    path.write_bytes(content)
    with pytest.raises(InputError, match="Bad CRC-32"):
        read(path)


def test_reading_is_repeatable_and_in_memory_of_a_block(tmp_path):
    """Twenty thousand rows, of which a block is a twentieth."""
    import tracemalloc

    rows = 20_000
    logits = np.random.default_rng(0).standard_normal((rows, 64)).astype(np.float32)  # 5 MB
    labels = logits.argmax(-1)
    stream = io.BytesIO()
    np.savez_compressed(stream, logits=logits, labels=labels)
    (tmp_path / "a.npz").write_bytes(stream.getvalue())
    predictions = Predictions(tmp_path / "a.npz", Names())
    predictions._rows_a_block = lambda: 1000
    tracemalloc.start()
    for _ in range(2):
        assert (
            sum(int((batch.scores.argmax(-1) == batch.labels).sum()) for batch in predictions.batches())
            == rows
        )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize("where", ["opening", "reading"])
def test_an_error_of_ours_is_no_damage(digits, tmp_path, monkeypatch, suffix, where):
    path = write(tmp_path / f"a{suffix}", logits=digits[0], labels=digits[1])
    predictions = Predictions(path, Names())

    def fail(*_, **__):
        raise ValueError("a bug")

    shared = {".npz": "npy", ".safetensors": "safetensors", ".parquet": "arrow"}
    module = f"labelsmooth.predictions.{shared[suffix]}"
    if where == "opening":
        monkeypatch.setattr(f"{module}.Column", fail)
    else:
        monkeypatch.setattr(f"{module}.reading", fail)
    with pytest.raises(ValueError, match="a bug") as raised:
        Predictions(path, Names()) if where == "opening" else list(predictions.batches())
    assert type(raised.value) is ValueError


def test_text_that_is_none_is_refused(digits, tmp_path):
    beyond = np.full(ROWS, 0x110000, np.uint32).view("U1")
    for groups, sentence in (
        (beyond, "holds characters in groups.npy that do not exist"),
        (np.zeros(ROWS, "U0"), "integers or text in groups, got <U0"),
    ):
        content = {name: npy(a.shape, a.tobytes(), a.dtype.str) for name, a in
                   (("logits", digits[0]), ("labels", digits[1]))}  # fmt: skip
        descr = "<U0" if groups is not beyond else "<U1"
        content["groups"] = npy((ROWS,), b"" if descr == "<U0" else groups.tobytes(), descr)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name, member in content.items():
                archive.writestr(f"{name}.npy", member)
        with pytest.raises(InputError, match=sentence):
            read(tmp_path / "a.npz")


@pytest.mark.parametrize("fortran", [False, True])
def test_a_member_that_ends_early(tmp_path, fortran):
    """Its size is what its header needs, but what is stored, with a checksum that is right, is less."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logits.npy", npy((10, 10), bytes(100), fortran=fortran))
        archive.writestr("labels.npy", npy((10,), bytes(80), "<i8"))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    size = struct.pack("<I", len(npy((10, 10), bytes(100), fortran=fortran)))
    claimed = struct.pack("<I", len(npy((10, 10), bytes(400), fortran=fortran)))
    assert content.count(size) == 2  # before the member and in the directory
    (tmp_path / "a.npz").write_bytes(content.replace(size, claimed))
    with pytest.raises(InputError, match=r"holds fewer values in logits\.npy than it announces"):
        read(tmp_path / "a.npz")
