"""Checks before any work: is everything here or available, is there disk space, and does it fit into memory?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ldc.access import machine
from ldc.access.hub import Listing, Repository, hub_home, listing, offline
from ldc.access.needs import Need, needs
from ldc.domains.kept import kept_folder
from ldc.domains.streaming import refuse_script
from ldc.errors import EnvironmentFault, LdcError, ModelError, StudyError
from ldc.models.folders import hub_cache
from ldc.plan.cost import estimate
from ldc.plan.machine import find_machine
from ldc.study.reading import StudyFile
from ldc.system import check_path

_SMALL = ("config.json", "generation_config.json", "model.safetensors.index.json", "chat_template.jinja")
_TOKENIZER = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "spiece.model"),
)
_BYTES_PER_CHARACTER = 1.0


@dataclass(frozen=True)
class Wanted:
    """Something that can be fetched: the need, what the Hub says about it, and its files with their bytes."""

    need: Need
    listing: Listing
    files: dict[str, int]

    @property
    def bytes(self) -> int:
        """Bytes to fetch; for streamed text the most that its limit allows."""
        if self.need.domain is not None:
            return int(self.need.domain.characters * _BYTES_PER_CHARACTER)
        return sum(self.files.values())


@dataclass(frozen=True)
class Preflight:
    """What a study lacks, what of that can be fetched, and every problem."""

    needs: list[Need]
    wanted: list[Wanted]
    problems: list[LdcError]


def preflight(file: StudyFile, out: Path | None = None, device: str = "auto") -> Preflight:
    """Check everything a study needs. Asks the Hub only about what is not on this disk.

    Args:
        out: the folder for the results, whose disk is checked; None if nothing will run.
        device: auto, cpu, cuda or cuda:N; memory is compared on a CPU only.
    """
    every = needs(file)
    wanted: list[Wanted] = []
    problems: list[LdcError] = []
    answers: dict[Repository, Listing | LdcError] = {}
    for need in every:
        if need.problem is None:
            continue
        if need.repository is None or not isinstance(need.problem, EnvironmentFault):
            problems.append(need.problem)
        elif variable := offline():
            problems.append(EnvironmentFault(f"{need.problem} ({variable} forbids network access here)"))
        else:
            _ask(need, need.repository, answers, wanted, problems)
    problems += _room(wanted)
    if out is not None:
        problems += _unusable(out, device)
    if out is not None and not problems and not wanted:
        problems += fits(file, out, device)
    return Preflight(every, wanted, problems)


def _unusable(out: Path, device: str) -> list[LdcError]:
    """Problems outside the study file: an impossible folder or a missing device."""
    problems: list[LdcError] = []
    for check in (lambda: check_path(out), lambda: find_machine(device, rate=1.0)):
        try:
            check()
        except LdcError as error:
            problems.append(error)
    return problems


def fits(file: StudyFile, out: Path, device: str) -> list[LdcError]:
    """Problems of disk space for results and of memory for the study. The models must be here."""
    here = find_machine(device, rate=1.0)  # no time is needed, so no rate is measured
    cost = estimate(file, device, here.flops)
    problems: list[LdcError] = []
    stored = sum(path.stat().st_size for path in (out / "runs").rglob("*") if path.is_file())
    needed, free = max(0, cost.disk_bytes - stored), machine.free_disk_bytes(out)
    if free is not None and needed > free:
        problems.append(
            EnvironmentFault(
                f"{out}: the results need about {machine.size(needed)}, but only {machine.size(free)} are free; "
                "free some space, or give another folder with -o"
            )
        )
    if not here.on_gpu and cost.memory_bytes > here.memory_bytes:
        problems.append(
            EnvironmentFault(
                f"memory: the study needs about {machine.size(cost.memory_bytes)}, but this machine has "
                f"{machine.size(here.memory_bytes)}; lower training.batch or training.block_length, or use a smaller "
                "model"
            )
        )
    return problems


def raise_problems(problems: Sequence[LdcError], file: StudyFile) -> None:
    """Raise all problems as one error: of the environment if any problem is, else of the study.

    Raises:
        LdcError: there is a problem.
    """
    if not problems:
        return
    study = str(file.path or "STUDY")
    texts = list(dict.fromkeys(str(p).replace("ldc fetch STUDY", f"ldc fetch {study}") for p in problems))
    if any("ldc fetch" in text for text in texts):
        texts[-1] += f"\n{how_to_carry()}"
    if len(texts) == 1:
        raise type(problems[0])(texts[0])
    kind = EnvironmentFault if any(isinstance(p, EnvironmentFault) for p in problems) else StudyError
    raise kind("\n".join([f"{len(texts)} problems to solve before the study can begin", *texts]))


def how_to_carry() -> str:
    """Where fetched files are, to copy them to a machine without access."""
    places = {machine.tilde(hub_cache()), machine.tilde(kept_folder())}
    home = machine.tilde(hub_home())
    if all(place.startswith(home) for place in places):
        places = {home}
    return f"copy files that were fetched on another machine to {' and '.join(sorted(places))}"


def _ask(
    need: Need,
    repository: Repository,
    answers: dict[Repository, Listing | LdcError],
    wanted: list[Wanted],
    problems: list[LdcError],
) -> None:
    """Ask the Hub about something that is not here, once for each repository."""
    if repository not in answers:
        try:
            answers[repository] = listing(repository)
        except EnvironmentFault as fault:
            answers[repository] = fault
            problems.append(EnvironmentFault(f"{need.key}: {fault}"))
    answer = answers[repository]
    if isinstance(answer, LdcError):
        return
    try:
        if need.split is not None and need.domain is not None:
            refuse_script(need.domain.name, need.split, answer.files)
            wanted.append(Wanted(need, answer, {}))
        else:
            wanted.append(Wanted(need, answer, _model_files(need, answer)))
    except LdcError as error:
        problems.append(error)


def _model_files(need: Need, found: Listing) -> dict[str, int]:
    """The files of a model that are needed and not here: configuration, safetensors, tokenizer, and code if allowed.

    Raises:
        ModelError: it has no configuration, no safetensors or no tokenizer.json.
    """
    names = {
        name
        for name in found.files
        if name in (*_SMALL, *_TOKENIZER)
        or (name.startswith("model") and name.endswith(".safetensors") and "/" not in name)
        or (need.remote_code and name.endswith(".py"))
    }
    where = f"{need.key}: {need.source}"
    if "config.json" not in names:
        adapter = " It holds an adapter; name its base model instead" if "adapter_config.json" in found.files else ""
        raise ModelError(
            f"{where}: has no config.json on the Hub, so it is not a model in Hugging Face format.{adapter}"
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise ModelError(
            f"{where}: has no safetensors weights on the Hub; LDC refuses other formats, because they can run code"
        )
    if "tokenizer.json" not in names:
        raise ModelError(
            f"{where}: has no tokenizer.json on the Hub, the fast tokenizer that LDC reads; use a model that has one, "
            "or make one: AutoTokenizer.from_pretrained(ID).save_pretrained(FOLDER)"
        )
    assert need.repository is not None
    snapshot = need.repository.folder / "snapshots" / found.commit
    return {name: found.files[name] for name in sorted(names) if not (snapshot / name).exists()}


def _room(wanted: Sequence[Wanted]) -> list[LdcError]:
    """Problems of disk space for downloads: models in the Hub cache, rows in LDC's own folder."""
    needed = {hub_cache(): 0, kept_folder(): 0}
    for item in wanted:
        needed[kept_folder() if item.need.domain is not None else hub_cache()] += item.bytes
    if machine.same_disk(hub_cache(), kept_folder()):
        needed = {hub_cache(): sum(needed.values())}
    problems: list[LdcError] = []
    for place, count in needed.items():
        free = machine.free_disk_bytes(place)
        if free is not None and count > free:
            problems.append(
                EnvironmentFault(
                    f"{machine.tilde(place)}: {machine.size(count)} are needed, but only {machine.size(free)} are "
                    "free; free some space, or set HF_HOME to a folder on a larger disk"
                )
            )
    return problems
