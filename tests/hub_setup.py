"""Repositories as the Hub's client lays them out in its cache, and a Hub that answers without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, Any]]


def parquet(rows: Rows) -> bytes:
    """Records as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink)
    return bytes(sink.getvalue().to_pybytes())


def lines(rows: Rows) -> bytes:
    """Records as JSON lines."""
    return "".join(json.dumps(dict(row)) + "\n" for row in rows).encode()


def card(text: str) -> bytes:
    """A data set's card with that YAML at its head."""
    return f"---\n{text.strip()}\n---\n# Card\n".encode()


def commit_of(files: Mapping[str, bytes]) -> str:
    """A commit for a set of files, 40 hexadecimal digits as git has them."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def cached(
    cache: Path, repository: str, files: Mapping[str, bytes], revision: str = "main", kind: str = "dataset"
) -> Path:
    """Put files into the cache as a download does: blobs, links to them in the snapshot, a reference."""
    folder = cache / f"{kind}s--{repository.replace('/', '--')}"
    commit = commit_of(files)
    for name, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path(*[".."] * (len(link.relative_to(folder).parts) - 1)) / "blobs" / blob.name)
    reference = folder / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)
    return folder / "snapshots" / commit


@dataclass
class FakeHub:
    """Answers the requests of the Hub's own client, by its true address scheme; remembers them.

    Attributes:
        repositories: (kind, id) -> files by path.
        gated: ids whose files may not be read, whatever the token.
        refs: names of revisions beside `main`, for every repository.
        status: answer every request with this, if given.
        unreachable: raise what a cut connection raises.
    """

    repositories: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    licences: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    unreachable: bool = False
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def client(self) -> httpx2.Client:
        """A client of the kind that the Hub's library makes, whose answers come from here."""
        return httpx2.Client(transport=httpx2.MockTransport(self.answer), follow_redirects=True)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """One answer."""
        path = request.url.path
        self.requests.append(f"{request.method} {path}")
        if token := request.headers.get("authorization"):
            self.tokens.add(token)
        if self.unreachable:
            raise httpx2.ConnectError("Name or service not known", request=request)
        if self.status is not None:
            return httpx2.Response(self.status, request=request, json={"error": "no"})
        if path.startswith("/api/"):
            return self._api(request, path.removeprefix("/api/"))
        return self._file(request, path.lstrip("/"))

    def _api(self, request: httpx2.Request, path: str) -> httpx2.Response:
        kinds, *rest = path.split("/")
        kind, name = kinds.rstrip("s"), "/".join(rest[:2])
        if (kind, name) not in self.repositories:
            return _refused(request, 401, "RepoNotFound")
        files = self.repositories[kind, name]
        what = rest[2:]
        if what[:1] == ["auth-check"]:
            return _refused(request, 403, "GatedRepo") if name in self.gated else httpx2.Response(200, json={})
        revision = what[1] if what[:1] in (["revision"], ["tree"], ["paths-info"]) and len(what) > 1 else "main"
        if revision not in ("main", commit_of(files)):
            return _refused(request, 404, "RevisionNotFound")
        if what[:1] == ["tree"]:
            under = "/".join(what[2:])
            return httpx2.Response(
                200, json=_tree(files, under, request.url.params.get("recursive") in ("true", "True"))
            )
        if what[:1] == ["paths-info"]:
            wanted = json.loads(request.content or b"{}").get("paths", [])
            wanted = [wanted] if isinstance(wanted, str) else wanted
            found = [entry for entry in _tree(files, "", True) if entry["path"] in wanted]
            return httpx2.Response(200, json=found)
        info = {
            "id": name,
            "sha": commit_of(files),
            "gated": "manual" if name in self.gated else False,
            "private": False,
            "siblings": [{"rfilename": n, "size": len(c), "blobId": "0" * 40} for n, c in files.items()],
            "cardData": {"license": self.licences[name]} if name in self.licences else None,
            "tags": [],
        }
        return httpx2.Response(200, json=info, request=request)

    def _file(self, request: httpx2.Request, path: str) -> httpx2.Response:
        """`datasets/org/name/resolve/revision/path`, or the same without `datasets` for a model."""
        kind = "dataset" if path.startswith("datasets/") else "model"
        org, name, _, revision, *rest = path.removeprefix("datasets/").split("/")
        repository = f"{org}/{name}"
        files = self.repositories.get((kind, repository))
        if files is None:
            return _refused(request, 401, "RepoNotFound")
        if repository in self.gated:
            return _refused(request, 403, "GatedRepo")
        if revision not in ("main", commit_of(files)):
            return _refused(request, 404, "RevisionNotFound")
        content = files.get("/".join(rest))
        if content is None:
            return _refused(request, 404, "EntryNotFound")
        first, last = 0, len(content) - 1
        partial = request.headers.get("range")
        if partial and request.method == "GET":
            begin, _, end = partial.removeprefix("bytes=").partition("-")
            first, last = int(begin or 0), min(last, int(end) if end else last)
        body = content[first : last + 1]
        headers = {
            "x-repo-commit": commit_of(files),
            "etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "content-length": str(len(body)),
            "accept-ranges": "bytes",
        }
        if partial and request.method == "GET":
            headers["content-range"] = f"bytes {first}-{last}/{len(content)}"
        code = 206 if partial and request.method == "GET" else 200
        return httpx2.Response(
            code, headers=headers, content=b"" if request.method == "HEAD" else body, request=request
        )


def _refused(request: httpx2.Request, status: int, code: str) -> httpx2.Response:
    return httpx2.Response(status, headers={"X-Error-Code": code, "X-Error-Message": code}, request=request)


def _tree(files: Mapping[str, bytes], under: str, recursive: bool) -> list[dict[str, Any]]:
    """Entries of a folder as the Hub lists them."""
    prefix = f"{under}/" if under else ""
    found: dict[str, dict[str, Any]] = {}
    for name, content in files.items():
        if not name.startswith(prefix):
            continue
        parts = name.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            if recursive or depth == 1:
                found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        if recursive or len(parts) == 1:
            found[name] = {"type": "file", "path": name, "oid": "0" * 40, "size": len(content)}
    return list(found.values())
