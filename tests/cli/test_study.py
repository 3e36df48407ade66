"""The tasks of `labelsmooth study` on the command line."""

from labelsmooth.cli import main


def test_images_is_the_task_without_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = []
    for task in (["images"], []):
        arguments = ["--data", "digits", "--model", "linear", "--epochs", "1", "--seeds", "1", "--dry-run"]
        assert main(["study", *task, *arguments]) == 0
        out = capsys.readouterr().out
        shown.append([line for line in out.splitlines() if not line.startswith("time")])
    assert shown[0] == shown[1]
    assert any(line.split()[:2] == ["--standardise", "auto"] for line in shown[0])


def test_a_task_that_is_not_there_is_one_sentence(capsys):
    assert main(["study", "image", "--data", "digits"]) == 2
    assert capsys.readouterr().err == "labelsmooth: error: study knows no 'image', did you mean images?\n"
