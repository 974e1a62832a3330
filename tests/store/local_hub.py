"""A Hugging Face hub in a thread, on this machine alone, speaking what `huggingface_hub` asks for.

Small files come from the hub itself, large ones by a redirect to another origin with the file's hash and size in
headers, as on huggingface.co.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE_OVER_BYTES = 100_000  # the hub's own is 10 MB


def commit_of(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha1()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name])
    return digest.hexdigest()


@dataclass
class LocalHub:
    """`repositories` maps a hub id to its files. The other fields make trouble; `requests` is what was asked."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut_after_bytes: list[int] = field(default_factory=list)  # taken one by one, per download of a large file
    damaged: bool = False
    ignores_range: bool = False
    status: int = 200  # for every request
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    endpoint: str = ""

    def __enter__(self) -> LocalHub:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, part: str, method: str = "GET") -> list[Mapping[str, str]]:
        """The headers of each request whose path has `part` in it."""
        return [headers for asked, path, headers in self.requests if part in path and asked == method]


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *values: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, {key.lower(): v for key, v in self.headers.items()}))
        parts = path.strip("/").split("/")
        if self.hub.status != 200:
            self._send(self.hub.status)
        elif parts[0] == "cdn":
            self._large(parts[1])
        elif parts[:2] == ["api", "models"]:
            self._listing("/".join(parts[2:4]), parts[-1], tree=parts[4] == "tree")
        else:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _files(self, hub_id: str, revision: str) -> dict[str, bytes] | None:
        files = self.hub.repositories.get(hub_id)
        if files is None:
            self._send(404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in {"main", commit_of(files)}:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return files

    def _listing(self, hub_id: str, revision: str, *, tree: bool) -> None:
        files = self._files(hub_id, revision)
        if files is None:
            return
        entries = []
        for name, data in files.items():
            entry: dict[str, object] = {"size": len(data)}
            if len(data) > LARGE_OVER_BYTES:
                sha256 = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": 134}
            if tree:
                entry |= {"type": "file", "path": name, "oid": _git_sha1(data)}
            else:
                entry |= {"rfilename": name, "blobId": _git_sha1(data)}
            entries.append(entry)
        document = entries if tree else {"id": hub_id, "sha": commit_of(files), "siblings": entries}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _resolve(self, hub_id: str, revision: str, name: str) -> None:
        files = self._files(hub_id, revision)
        if files is None:
            return
        commit = {"X-Repo-Commit": commit_of(files)}
        if hub_id in self.hub.gated:
            self._send(403, {**commit, "X-Error-Code": "GatedRepo"})
        elif name not in files:
            self._send(404, {**commit, "X-Error-Code": "EntryNotFound"})
        elif len(files[name]) > LARGE_OVER_BYTES:
            sha256 = hashlib.sha256(files[name]).hexdigest()
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(files[name]))}
            # `localhost` is another origin than 127.0.0.1, as the hub's storage is.
            self._send(302, {**commit, **linked, "Location": f"http://localhost:{self.hub.port}/cdn/{sha256}"})
        else:
            self._send(200, {**commit, "ETag": f'"{_git_sha1(files[name])}"'}, files[name])

    def _large(self, sha256: str) -> None:
        every = [data for files in self.hub.repositories.values() for data in files.values()]
        data = next(data for data in every if hashlib.sha256(data).hexdigest() == sha256)
        if self.hub.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked is None or self.hub.ignores_range:
            self._send(200, headers, data)
            return
        begin = int(asked.removeprefix("bytes=").split("-")[0])
        headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self._send(206, headers, data[begin:])

    def _send(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut_after_bytes and len(body) > LARGE_OVER_BYTES:
            self.wfile.write(body[: self.hub.cut_after_bytes.pop(0)])
            self.close_connection = True  # fewer bytes than announced, then nothing
            return
        self.wfile.write(body)


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
