"""The study files that come with the package: the example to edit, and the embedded study."""

from __future__ import annotations

from pathlib import Path

from ldc.errors import EnvironmentFault, StudyError
from ldc.study.reading import StudyFile, study_from_text

_FOLDER = Path(__file__).parent


def example_text() -> str:
    """The commented example study."""
    return (_FOLDER / "example.yaml").read_text(encoding="utf-8")


def write_study(path: Path, text: str, force: bool = False) -> None:
    """Write a study to a new file. Makes its folder if there is none.

    Args:
        path: the file.
        text: what it shall hold.
        force: overwrite an existing file.

    Raises:
        StudyError: the file exists and `force` is false.
        EnvironmentFault: the file cannot be written.
    """
    if path.is_dir():
        raise StudyError(f"{path}: this is a folder; name a file, such as {path / 'study.yaml'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError as error:
        raise StudyError(f"{path}: exists already; name another file, or overwrite it with --force") from error
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error


def demo_study() -> StudyFile:
    """The embedded study; it reads no file of the user's, so its base folder is never used."""
    text = (_FOLDER / "demo.yaml").read_text(encoding="utf-8")
    return StudyFile(study=study_from_text(text, "demo.yaml"), base=Path(), path=None)
