"""A small hub on loopback: the REST routes that huggingface_hub calls for datasets, over a folder of files."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``folder/<owner>/<name>/…`` as datasets.

    Attributes:
        requests: (method, path, Range) as they came.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.cards: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length).decode()
        given = json.loads(raw) if raw.startswith("{") else urllib.parse.parse_qs(raw)
        self.server.requests.append(("POST", self.path, None))
        parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/").split("/")
        dataset = "/".join(parts[2:4])
        if parts[4:5] == ["paths-info"]:
            self.json([entry for entry in self.entries(dataset) if entry["path"] in given["paths"]])
        else:
            self.fail(404, "EntryNotFound")

    def answer(self, *, body: bool) -> None:
        split = urllib.parse.urlsplit(self.path)
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        parts = urllib.parse.unquote(split.path).strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            dataset, rest = "/".join(parts[2:4]), parts[4:]
            if not (self.server.folder / dataset).is_dir():
                self.fail(404, "RepoNotFound")
            elif rest[:1] == ["tree"]:
                within = "/".join(rest[2:])
                found = [e for e in self.entries(dataset) if not within or e["path"].startswith(within + "/")]
                if urllib.parse.parse_qs(split.query).get("recursive", ["false"])[0].lower() not in ("true", "1"):
                    depth = len(within.split("/")) if within else 0
                    found = [e for e in found if e["path"].count("/") == depth]
                self.json(found)
            elif rest[:1] == ["revision"] and rest[1] not in ("main", COMMIT):
                self.fail(404, "RevisionNotFound")
            else:
                card = self.server.cards.get(dataset)
                self.json({"id": dataset, "sha": COMMIT, "private": False, "tags": [], "siblings": [],
                           "downloads": 0, "likes": 0, "cardData": card})  # fmt: skip
        elif parts[:1] == ["datasets"] and parts[3:4] == ["resolve"]:
            self.file(self.server.folder / "/".join(parts[1:3]) / "/".join(parts[5:]), body)
        else:
            self.fail(404, "EntryNotFound")

    def entries(self, dataset: str) -> Iterator[dict[str, Any]] | list[dict[str, Any]]:
        root = self.server.folder / dataset
        made: list[dict[str, Any]] = []
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_dir():
                made.append({"type": "directory", "path": name, "oid": "0" * 40})
            else:
                raw = path.read_bytes()
                entry = {"type": "file", "path": name, "size": len(raw), "oid": _blob(raw)}
                if not name.endswith("1.parquet"):  # some files lie in large storage, some in git
                    entry["lfs"] = {"oid": hashlib.sha256(raw).hexdigest(), "size": len(raw), "pointerSize": 130}
                made.append(entry)
        return made

    def file(self, path: Path, body: bool) -> None:
        if not path.is_file():
            self.fail(404, "EntryNotFound")
            return
        raw = path.read_bytes()
        begin, end, code = 0, len(raw), 200
        if given := self.headers.get("Range"):
            first, _, last = given.removeprefix("bytes=").partition("-")
            begin, code = int(first or 0), 206
            end = int(last) + 1 if last else len(raw)
            if begin >= len(raw):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(raw)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(code)
        self.send_header("ETag", f'"{_etag(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(min(end, len(raw)) - begin))
        if code == 206:
            self.send_header("Content-Range", f"bytes {begin}-{min(end, len(raw)) - 1}/{len(raw)}")
        self.end_headers()
        if not body:
            return
        piece = raw[begin:end]
        self.wfile.write(piece)

    def json(self, value: Any) -> None:
        raw = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def fail(self, code: int, kind: str) -> None:
        raw = json.dumps({"error": kind}).encode()
        self.send_response(code)
        self.send_header("X-Error-Code", kind)
        self.send_header("X-Error-Message", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


def _blob(raw: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()


def _etag(path: Path) -> str:
    return _blob(path.read_bytes())


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """A hub over ``folder`` while inside."""
    hub = Hub(folder)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
