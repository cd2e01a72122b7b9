"""Rows of a data set through the `datasets` library, one after the other: from the Hub, or from a snapshot on disk.

The same code of that library finds the files, configurations and splits either way; no code of the data set runs.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ldc.domains.choices import HubSplit
from ldc.errors import DataError, EnvironmentFault

EXTRA = 'pip install "layer-domain-control[hub]"'
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=[.-])")
_DATA = (".parquet", ".jsonl", ".json", ".csv", ".txt", ".arrow", ".gz", ".zst", ".zip", ".tar", ".ndjson", ".tsv")


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows of one split, in the data set's order.

    Attributes:
        splits: the names of all splits.
        files: the data files of this split.
        expected: how many rows the data set's card says there are, if it does.
    """

    domain: str
    split: HubSplit
    rows: Iterable[dict[str, Any]]
    splits: tuple[str, ...]
    files: tuple[str, ...]
    expected: int | None

    def check_whole(self, rows: int) -> None:
        """Make sure, after the last row was read, that none was missing.

        Raises:
            EnvironmentFault: files are missing, or rows.
        """
        missing = _missing_shards(self.files)
        if missing:
            raise _incomplete(self.domain, self.split, missing)
        if self.expected is not None and rows < self.expected:
            raise _incomplete(self.domain, self.split, [f"{self.expected - rows:,} of {self.expected:,} rows"])


def from_snapshot(domain: str, split: HubSplit, snapshot: Path) -> Stream:
    """Rows from a folder of the Hub cache, without any access to the network.

    Raises:
        DataError: the data set needs a script, or lacks the configuration or split.
        EnvironmentFault: files are missing, or the library `datasets` is.
    """
    check_files(domain, split, snapshot)
    stream = _stream(domain, split, str(snapshot), None)
    if gaps := _missing_shards(stream.files, within=True):
        raise _incomplete(domain, split, gaps)
    return stream


def from_hub(domain: str, split: HubSplit, commit: str) -> Stream:
    """Rows from the Hub; reading starts with the first row.

    Raises:
        DataError, EnvironmentFault: as `from_snapshot`; errors of access are the library's own.
    """
    return _stream(domain, split, split.id, commit)


def check_files(domain: str, split: HubSplit, snapshot: Path) -> None:
    """Make sure that a snapshot has data, no broken links and no script. Reads nothing.

    Raises:
        DataError, EnvironmentFault: as `from_snapshot`.
    """
    names = [path.relative_to(snapshot).as_posix() for path in sorted(snapshot.rglob("*"))]
    refuse_script(domain, split, names)
    dangling = [name for name in names if not (snapshot / name).exists()]
    if dangling:
        raise _incomplete(domain, split, dangling)
    if not any(name.endswith(_DATA) for name in names):
        raise _incomplete(domain, split, ["its data files"])
    if split.folder is not None and not (snapshot / split.folder).is_dir():
        raise _incomplete(domain, split, [f"{split.folder}/"])


def refuse_script(domain: str, split: HubSplit, names: Iterable[str]) -> None:
    """Make sure that a data set consists of files, and not of a program that makes them.

    Raises:
        DataError: it has a loading script.
    """
    script = f"{split.id.rpartition('/')[2]}.py"
    if script in set(names):
        raise DataError(
            f"domains.{domain}: {split.id} needs its own loading script ({script}), which LDC does not run and "
            "`datasets` from version 4 on cannot run. Most such sets have a copy in Parquet that the Hub made: try "
            "revision: refs/convert/parquet with folder: CONFIGURATION, or choose another data set"
        )


def licence_of(snapshot: Path) -> str | None:
    """The licence that a data set's card states."""
    try:
        text = (snapshot / "README.md").read_text(encoding="utf-8")
        head = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else None
    except (OSError, UnicodeDecodeError, IndexError, yaml.YAMLError):
        return None
    stated = head.get("license") if isinstance(head, dict) else None
    return ", ".join(map(str, stated)) if isinstance(stated, list) else stated


@contextmanager
def faults_in_words(domain: str, split: HubSplit) -> Iterator[None]:
    """Turn what the library raises on damaged or odd files into one message.

    Raises:
        DataError: instead of an error in the data; errors of access pass.
    """
    import pyarrow as pa

    library = _library()
    from huggingface_hub.errors import HfHubHTTPError

    where = f"domains.{domain}: {split.id}, split {split.split}"
    try:
        yield
    except HfHubHTTPError:
        raise
    except (
        library.exceptions.DatasetsError,
        pa.ArrowException,
        ValueError,
        EOFError,
        zlib.error,
        NotImplementedError,
    ) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = str(error.__cause__).splitlines()[0] if error.__cause__ and str(error.__cause__) else ""
        told = "; ".join(filter(None, (lines[0][:300] if lines else type(error).__name__, cause[:200])))
        raise DataError(
            f"{where}: cannot be read ({told}). Fetch it again, pin a revision that is sound, or choose another"
        ) from error


def _stream(domain: str, split: HubSplit, path: str, revision: str | None) -> Stream:
    library = _library()
    try:
        builder = library.load_dataset_builder(path, split.configuration, data_dir=split.folder, revision=revision)
    except (library.exceptions.DataFilesNotFoundError, library.data_files.EmptyDatasetError) as error:
        if revision is None:
            raise _incomplete(domain, split, ["its data files"]) from error
        raise DataError(
            f"domains.{domain}: {split.id} has no data files that can be read"
            + (f" in the folder {split.folder}" if split.folder else "")
            + f"; see {split.page}/tree/main"
        ) from error
    except ValueError as error:
        raise DataError(_configuration(domain, split, str(error))) from error
    except RuntimeError as error:
        if "scripts" in str(error):
            refuse_script(domain, split, [f"{split.id.rpartition('/')[2]}.py"])
        raise
    found = dict(builder.config.data_files or {})
    splits = tuple(map(str, found))
    if split.split not in splits:
        raise DataError(_no_split(domain, split, splits))
    info = (builder.info.splits or {}).get(split.split)
    stream = builder.as_streaming_dataset(split=split.split)
    files = tuple(map(str, found[split.split]))
    return Stream(domain, split, stream, splits, files, (info.num_examples or None) if info else None)


def _configuration(domain: str, split: HubSplit, told: str) -> str:
    """What is wrong with the configuration, with those there are."""
    listed = re.search(r"(?:Available|available configs): (\[.*?\])", told)
    names = ", ".join(re.findall(r"'([^']*)'", listed.group(1))) if listed else ""
    if names and split.configuration is None:
        return f"domains.{domain}: {split.id} has several configurations; name one as configuration: {names}"
    if names:
        return f"domains.{domain}: {split.id} has no configuration {split.configuration!r}; it has {names}"
    return f"domains.{domain}: {split.id} cannot be opened: {told.splitlines()[0][:300]}"


def _no_split(domain: str, split: HubSplit, splits: tuple[str, ...]) -> str:
    has = f"it has {', '.join(splits)}" if len(splits) > 1 else f"it has only {splits[0]}" if splits else "it has none"
    remedy = ""
    if splits and split.split != "train":
        remedy = ". Name one of these, or leave test and validation out: LDC then splits the training split by document"
    elif splits:
        remedy = f". Name one of these as train: {splits[0]}"
    return f"domains.{domain}: {split.id} has no split {split.split!r}; {has}{remedy}"


def _missing_shards(files: Iterable[str], within: bool = False) -> list[str]:
    """The numbered files that are missing; `within`: only those before the last that is there."""
    have: dict[tuple[str, int], set[int]] = {}
    for name in files:
        short = name.rpartition("/")[2]
        if match := _SHARD.search(short):
            have.setdefault((short[: match.start()], int(match.group(2))), set()).add(int(match.group(1)))
    return [
        f"{stem}-{number:05}-of-{count:05}"
        for (stem, count), numbers in have.items()
        for number in range(max(numbers) if within else count)
        if number not in numbers
    ]


def _incomplete(domain: str, split: HubSplit, missing: list[str]) -> EnvironmentFault:
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    return EnvironmentFault(
        f"domains.{domain}: {split.id}, split {split.split}, is incomplete in the Hub cache; missing: "
        f"{', '.join(missing[:4])}{more}. Fetch it on a machine with access: ldc fetch STUDY"
    )


def _library() -> Any:
    """The library, without progress bars and without a count of loads sent home.

    Raises:
        EnvironmentFault: it is not installed.
    """
    try:
        import datasets
        import datasets.data_files
        import datasets.exceptions
    except ImportError as error:
        raise EnvironmentFault(f"data sets of the Hub need the library `datasets`: {EXTRA}") from error
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    datasets.disable_progress_bars()
    return datasets
