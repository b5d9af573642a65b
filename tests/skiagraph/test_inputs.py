"""Which files a command line means."""

from pathlib import Path

from skiagraph import inputs
from skiagraph.scoring import output_names


def test_folders_are_searched_and_named_files_taken_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.PNG", "a.jpeg", "deep/c.dcm", "notes.txt", ".hidden.png"):
        (folder / name).write_bytes(b"x")
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "loop").symlink_to(folder)
    named = tmp_path / "notes.csv"
    named.write_bytes(b"x")
    found = inputs.find([named, folder, folder / "a.jpeg"])
    assert [path.name for path in found.files] == ["notes.csv", "IM0001", "a.jpeg", "b.PNG", "c.dcm"]
    assert found.problems == ()


def test_what_gives_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = inputs.find([tmp_path / "empty", tmp_path / "gone"])
    assert found.files == ()
    assert [problem.rpartition("/")[2] for problem in found.problems] == [
        "empty holds no DICOM, PNG or JPEG file",
        "gone does not exist",
    ]


def test_output_names_never_collide() -> None:
    files = [Path(name) for name in ("a/x.png", "b/x.png", "c/x.dcm", "c/x-2.png", "d/y.png")]
    names = output_names(files)
    assert len(set(names)) == len(files)
    assert names[0] == "x"
    assert names[-1] == "y"
