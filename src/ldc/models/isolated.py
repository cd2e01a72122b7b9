"""A folder with a model's fingerprinted files and nothing else, from which transformers loads.

A model folder may hold more than LDC fingerprints: an adapter, a second tokenizer, checkpoints of a distributed
training with a pickled index. Which of these transformers looks for changes with its version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ldc.errors import EnvironmentFault
from ldc.models.folders import TOKENIZER_CONFIG, read_json
from ldc.models.redirects import without_leftovers


@contextmanager
def isolated(folder: Path, files: Iterable[Path]) -> Iterator[Path]:
    """A temporary folder of the same name with links to these files alone; gone afterwards.

    `tokenizer_config.json` is copied without the paths that old versions of transformers saved in it.

    Args:
        folder: the model's.
        files: files in it, at whatever depth.

    Raises:
        EnvironmentFault: no temporary folder can be written.
    """
    try:
        place = TemporaryDirectory(prefix="ldc-")
    except OSError as cause:
        raise EnvironmentFault(f"no temporary folder can be written ({cause.strerror}); set TMPDIR to one") from cause
    with place as top:
        shown = Path(top) / (folder.name or "model")
        for file in files:
            link = shown / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            if file.name == TOKENIZER_CONFIG:
                link.write_text(json.dumps(without_leftovers(read_json(file, file.read_bytes()))))
            else:
                link.symlink_to(file.resolve())
        yield shown
