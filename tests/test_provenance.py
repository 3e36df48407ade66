"""Which commit the code is said to be of: one that can be told, or none."""

import os
import shutil
import subprocess

import pytest

from labelsmooth.provenance import commit, processor

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "package").mkdir()
    module = tmp_path / "package" / "module.py"
    module.write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return module


def test_a_checkout_says_its_commit_and_whether_it_was_changed(checkout):
    head = git(checkout.parent, "rev-parse", "HEAD")
    assert commit(checkout) == head
    (checkout.parent / "untracked.py").touch()
    assert commit(checkout) == head
    checkout.write_text("a = 2\n")
    assert commit(checkout) == f"{head} with changes"
    git(checkout.parent, "commit", "-q", "-a", "-m", "second")
    assert commit(checkout) == git(checkout.parent, "rev-parse", "HEAD") != head


def test_an_install_inside_of_a_checkout_says_nothing(checkout):
    installed = checkout.parent / "site-packages" / "module.py"
    installed.parent.mkdir()
    installed.touch()
    assert commit(installed) is None


def test_the_index_of_the_checkout_is_left_alone(checkout):
    index = checkout.parent.parent / ".git" / "index"
    before = index.read_bytes()
    os.utime(checkout, (0, 0))  # a plain `git status` would note the new time
    commit(checkout)
    assert index.read_bytes() == before


def test_no_commit_no_checkout_and_no_git(checkout, tmp_path_factory, monkeypatch):
    alone = tmp_path_factory.mktemp("alone")
    (alone / "module.py").touch()
    assert commit(alone / "module.py") is None
    git(alone, "init", "-q")
    git(alone, "add", "module.py")
    assert commit(alone / "module.py") is None  # nothing is committed yet
    # another repository that the environment names is not the one
    monkeypatch.setenv("GIT_DIR", str(checkout.parents[1] / ".git"))
    assert commit(alone / "module.py") is None
    monkeypatch.setenv("PATH", str(alone))
    assert commit(checkout) is None


def test_the_processor_has_a_name():
    assert processor().strip()
