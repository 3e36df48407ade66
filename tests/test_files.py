"""Files appear whole or not at all, and an error of the system names the file."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labelsmooth import files
from labelsmooth.errors import InputError
from labelsmooth.files import reading, write_together, write_whole


def test_text_and_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "page.html"
    write_whole(path, "± und \udcff")  # a name of a file need not be UTF-8
    assert path.read_bytes() == "± und ?".encode()
    write_whole(path, b"\x00new")
    assert path.read_bytes() == b"\x00new"
    assert list(tmp_path.iterdir()) == [path]


def full_disk(monkeypatch, of: int) -> None:
    """Let the of-th sync find the disk full, as one can that promised to take what was written."""
    left = of

    def sync(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", sync)


@pytest.mark.parametrize("of", [1, 2])
def test_of_files_that_belong_together_all_or_none_are_written(tmp_path, monkeypatch, of):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text("old")
    full_disk(monkeypatch, of)
    with pytest.raises(OSError, match="No space left") as raised:
        write_together(dict.fromkeys(paths, "new"))
    assert raised.value.filename == str(paths[of - 1])
    assert sorted(tmp_path.iterdir()) == paths
    assert [path.read_text() for path in paths] == ["old", "old"]


def test_a_folder_in_the_place_of_one_file_leaves_the_other(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_text("old")
    paths[1].mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_together(dict.fromkeys(paths, "new"))
    assert raised.value.filename == str(paths[1])
    assert paths[0].read_text() == "old"
    assert sorted(tmp_path.iterdir()) == paths


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_is_full_is_named(tmp_path, monkeypatch):
    path = tmp_path / "results"
    full = tmp_path / ".partial-0-results"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(files, "_partial", lambda _: full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_whole(path, "x" * 10)
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_writers_of_one_file_at_a_time_leave_the_whole_of_one(tmp_path):
    """Each has opened its file before any goes on, and the longer ones would show behind the shorter."""
    path, pages = tmp_path / "page.html", [str(number) * (10_000 * number) for number in (1, 2, 3, 4)]
    opened = threading.Barrier(len(pages))

    class Page(str):
        def encode(self, *arguments, **named):
            opened.wait(30)
            return super().encode(*arguments, **named)

    with ThreadPoolExecutor(len(pages)) as pool:
        list(pool.map(lambda page: write_whole(path, Page(page)), pages))
    assert path.read_text() in pages
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_named(tmp_path):
    path = tmp_path / "missing" / "page.html"
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(path, "")
    assert raised.value.filename == str(path)


def test_what_a_reader_raises_for_a_damaged_file_is_a_refusal(tmp_path):
    path = tmp_path / "rows.npz"
    says = r"rows\.npz is no \.npz file, or is damaged \(cut short\)"
    with pytest.raises(InputError, match=says), reading(path, (ValueError,)):
        raise ValueError("cut\n short")
    in_words = reading("image 3", (OSError,), lambda error: f"image 3: {error}")
    with pytest.raises(InputError, match=r"^image 3: cut short$"), in_words:
        raise OSError("cut short")


@pytest.mark.parametrize(
    ("error", "number"),
    [(MemoryError(), errno.ENOMEM), (OSError(errno.EMFILE, "Too many open files"), errno.EMFILE)],
)
def test_what_the_machine_lacks_is_no_damage(error, number):
    in_words = reading("image 3", (OSError, MemoryError))
    with pytest.raises(OSError, match=os.strerror(number)) as raised, in_words:
        raise error
    assert raised.value.errno == number
    assert not isinstance(raised.value, InputError)
