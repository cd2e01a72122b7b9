"""What a study needs, and whether it is on this disk: each model and each split of a domain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ldc.access.hub import Repository
from ldc.domains import hub as hub_domains
from ldc.domains import kept
from ldc.domains.choices import HubSplit
from ldc.domains.embedded import EMBEDDED_DOMAINS
from ldc.domains.hub import HubDomain, hub_domain
from ldc.domains.readers import check_there, local_path
from ldc.domains.registry import look
from ldc.errors import DataError, EnvironmentFault, LdcError, ModelError, StudyError
from ldc.models.folders import read_config, resolve_folder, tokenizer_fingerprint, weight_files
from ldc.study.reading import StudyFile
from ldc.study.schema import DomainSpec, ModelSpec
from ldc.system import check_path, expanded


@dataclass(frozen=True)
class Need:
    """One model, or one split of a domain.

    Attributes:
        key: its key in the study: `models.llama`.
        source: its Hub id, its path as the study has it, or `embedded`.
        repository: where the Hub has it; None if it does not come from the Hub.
        place: its folder or file on this disk.
        problem: why it cannot be used now; None if it can.
        split: for a Hub data set, the split that is read; `domain` is the domain it is read for.
    """

    key: str
    source: str
    repository: Repository | None = None
    place: Path | None = None
    problem: LdcError | None = None
    licence: str | None = None
    note: str = ""
    domain: HubDomain | None = None
    split: HubSplit | None = None
    remote_code: bool = False

    @property
    def here(self) -> bool:
        """Whether it can be used now."""
        return self.problem is None


def needs(file: StudyFile) -> list[Need]:
    """Everything a study needs, in its order. Uses no network and reads no weights."""
    found = [_model(name, spec, file.base) for name, spec in file.study.models.items()]
    for name, domain in file.study.domains.items():
        found += _domain(name, domain, file.base)
    return found


def _model(name: str, spec: ModelSpec, base: Path) -> Need:
    key = f"models.{name}"
    place = base / expanded(spec.source)
    try:
        check_path(place)
    except StudyError as error:
        return Need(key, spec.source, problem=ModelError(f"{key}: {error}"))
    local = spec.source == "embedded" or place.is_dir()
    repository = None if local else Repository(spec.source, "model", spec.revision)
    try:
        folder = resolve_folder(name, spec, base)
    except EnvironmentFault as fault:
        return Need(key, spec.source, repository, problem=fault, remote_code=spec.trust_remote_code)
    except ModelError as error:
        return Need(key, spec.source, problem=error)
    problem: LdcError | None = None
    try:
        read_config(folder)
        weight_files(folder)
        tokenizer_fingerprint(folder)
    except OSError as error:
        problem = ModelError(f"{key}: {folder}: cannot be read ({error.strerror})")
    except ModelError as error:
        problem = error
    if problem is not None and repository is not None:
        problem = EnvironmentFault(
            f"{key}: {repository} is incomplete in the Hub cache: {problem}. Where there is access: ldc fetch STUDY"
        )
    return Need(key, spec.source, repository, folder, problem, remote_code=spec.trust_remote_code)


def _domain(name: str, spec: DomainSpec, base: Path) -> list[Need]:
    key = f"domains.{name}"
    if spec.source == "embedded":
        problem = (
            None
            if name in EMBEDDED_DOMAINS
            else DataError(f"{key}: no embedded domain has this name; choose one of {', '.join(EMBEDDED_DOMAINS)}")
        )
        return [Need(key, "embedded", problem=problem)]
    if spec.on_hub:
        try:
            asked = hub_domain(name, spec)
        except DataError as error:
            return [Need(key, str(spec.source), problem=error)]
        return [_split(key, asked, split) for split in asked.splits.values()]
    found = []
    for path in (spec.source, spec.train, spec.validation, spec.test):
        if path is not None:
            try:
                check_there(place := local_path(base, path))
                found.append(Need(key, path, place=place))
            except StudyError as error:
                found.append(Need(key, path, problem=DataError(f"{key}: {error}")))
    if all(need.here for need in found):
        try:
            look(name, spec, base)
        except StudyError as error:
            found[0] = replace(found[0], problem=error)
    return found


def _split(key: str, asked: HubDomain, split: HubSplit) -> Need:
    problem = hub_domains.local_problem(asked, split)
    rows = kept.find(split)
    return Need(
        key,
        split.id,
        hub_domains.repository_of(split),
        None if problem else rows.path if rows else hub_domains.snapshot_of(split),
        problem,
        asked.licence or (rows.licence if rows else None),
        asked.note,
        asked,
        split,
    )
