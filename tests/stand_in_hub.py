"""A Hugging Face hub on loopback: real HTTP, as much of it as the client asks for, and every way in which it fails.

Like the real one it keeps large files elsewhere: their content is asked for under another host's name, which wants no
token.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

COMMIT = "c0ffee" + "0" * 34
_LARGE = (".safetensors", ".bin")
_PIECE_BYTES = 16 * 1024


@dataclass
class Repository:
    files: dict[str, bytes]
    is_gated: bool = False
    commit: str = COMMIT


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    range: str | None = None


@dataclass
class StandInHub:
    """Serves what is in `repositories`, by their ids; the other fields say how it fails."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    status: int | None = None  # what it answers to everything
    headers: dict[str, str] = field(default_factory=dict)  # beside that status
    busy_count: int = 0  # so many requests of files are answered with 429
    dies_after_bytes: dict[str, int] = field(default_factory=dict)  # by file: the connection is cut there, every time
    released: dict[str, threading.Event] = field(default_factory=dict)  # by file: nothing more than half of it before

    def add(self, model_id: str, files: Mapping[str, bytes] | Path, *, is_gated: bool = False) -> None:
        """Puts a model there: its files by name, or those of a folder."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
        self.repositories[model_id] = Repository(dict(files), is_gated)

    def asked_for(self, name: str) -> list[Asked]:
        """The requests of a file's content, where that is kept."""
        place = "/content/" if name.endswith(_LARGE) else "/resolve/"
        asked = [one for one in self.asked if one.method == "GET" and place in one.path]
        return [one for one in asked if one.path.endswith(f"/{name}")]

    def environment(self, cache: Path) -> dict[str, str]:
        """The environment of a process that knows no other hub, nor anything that was downloaded before."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}

    def library(self, token: str | bool = False) -> Any:
        """The real client, in this process, which asks here."""
        return huggingface_hub.HfApi(endpoint=self.url, token=token)


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """A hub that answers until the end of `with`."""
    hub = StandInHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        for event in hub.released.values():
            event.set()
        server.shutdown()
        server.server_close()


def use_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, url: str | None = None) -> Path:
    """Has the client in this process keep what it fetches in `cache`; the hub is at `url`, or nowhere."""
    url = url or "http://127.0.0.1:9"  # the port that discards: nobody listens
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return cache


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandInHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None: ...

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/api/agent-harnesses":  # the client's own housekeeping, once a process
            self._send(404, b"")
            return
        self.hub.asked.append(Asked(self.command, path, self.headers.get("Range")))
        if self.hub.status is not None:
            self._send(self.hub.status, b"", self.hub.headers)
        elif match := re.fullmatch(r"/api/models/(.+?)(?:/(revision|tree)/([^/]+)(/.+)?)?", path):
            self._describe(match[1], match[2], match[4] or "")
        elif match := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/content/(.+?)/-/(.+)", path):
            self._send_content(match[1], match[2])
        else:
            self._send(404, b"")

    def _describe(self, model_id: str, what: str | None, folder: str) -> None:
        found = self.hub.repositories.get(model_id)
        if found is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif folder and not any(name.startswith(f"{folder[1:]}/") for name in found.files):
            self._refuse(404, "EntryNotFound", f"{folder[1:]} does not exist")
        elif what == "tree":
            self._send_json([{"type": "file", "path": name, **_facts(body)} for name, body in found.files.items()])
        else:
            siblings = [
                {"rfilename": name, "size": len(body), "blobId": _facts(body)["oid"]}
                for name, body in found.files.items()
            ]
            self._send_json({"id": model_id, "sha": found.commit, "siblings": siblings, "gated": found.is_gated})

    def _resolve(self, model_id: str, revision: str, name: str) -> None:
        found = self.hub.repositories.get(model_id)
        if found is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif found.is_gated and self.headers.get("Authorization") != "Bearer granted":
            self._refuse(403, "GatedRepo", f"Access to model {model_id} is restricted")
        elif revision not in ("main", found.commit):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        elif self.hub.busy_count:
            self.hub.busy_count -= 1
            self._send(429, b"", {"Retry-After": "1"})
        elif name not in found.files:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": found.commit})
        elif name.endswith(_LARGE):
            elsewhere = self.hub.url.replace("127.0.0.1", "localhost")
            self._send(302, b"", {"Location": f"{elsewhere}/content/{model_id}/-/{name}", **_large_file(found, name)})
        else:
            self._send_file(found, name)

    def _send_content(self, model_id: str, name: str) -> None:
        if "Authorization" in self.headers:
            self._send(400, b"Only one auth mechanism allowed")  # as object stores say
        else:
            self._send_file(self.hub.repositories[model_id], name)

    def _send_file(self, found: Repository, name: str) -> None:
        body = found.files[name]
        etag = _facts(body)["lfs"]["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": found.commit, "Accept-Ranges": "bytes"}
        status, begin = 200, 0
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            begin, end = int(match[1]), int(match[2] or len(body) - 1)
            if begin >= len(body):
                self._send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            headers["Content-Range"] = f"bytes {begin}-{min(end, len(body) - 1)}/{len(body)}"
            status, body = 206, body[: end + 1]
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body) - begin)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self._write(name, body, begin, half=len(found.files[name]) // 2)

    def _write(self, name: str, body: bytes, position: int, half: int) -> None:
        event = self.hub.released.get(name)
        while position < len(body):
            dies_at = self.hub.dies_after_bytes.get(name)
            if dies_at is not None and position >= dies_at:
                self.close_connection = True
                return
            if event is not None and position >= half:
                event.wait(60)
            end = min(position + _PIECE_BYTES, len(body) if dies_at is None else dies_at)
            try:
                self.wfile.write(body[position:end])
                self.wfile.flush()
            except OSError:
                self.close_connection = True  # whoever asked has gone
                return
            position = end

    def _refuse(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": text, **(headers or {})})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _large_file(found: Repository, name: str) -> dict[str, str]:
    """What the hub says of a file that it keeps elsewhere."""
    facts = _facts(found.files[name])["lfs"]
    size = {"X-Linked-Size": str(facts["size"]), "X-Linked-ETag": f'"{facts["oid"]}"'}
    return {**size, "X-Repo-Commit": found.commit}


@functools.lru_cache
def _facts(body: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(body).hexdigest()
    return {
        "oid": hashlib.sha1(body).hexdigest(),
        "size": len(body),
        "lfs": {"oid": sha256, "size": len(body), "pointerSize": 134},
    }
