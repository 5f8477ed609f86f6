"""As much of the Hugging Face Hub as pushing a dataset takes, in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_test"


@dataclass
class Repository:
    visibility: str
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, bytes]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{method} {path}")
        if path.startswith("/lfs/"):
            oid = path.removeprefix("/lfs/")
            assert hashlib.sha256(body).hexdigest() == oid
            self.hub.blobs[oid] = body
            return self._answer({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "Invalid credentials"}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        parts = path.removeprefix("/api").removeprefix("/datasets/").split("/")
        repo_id = "/".join(parts[:2]).removesuffix(".git")
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            return self._answer({"error": "not found"}, 404)
        return self._in_repository(repository, repo_id, method, parts[2:], body)

    def _create(self, wanted: dict[str, Any]) -> None:
        assert wanted["type"] == "dataset"
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.hub.endpoint}/datasets/{repo_id}"}
        if repo_id in self.hub.repositories:
            return self._answer({"error": "exists", **url}, 409)
        self.hub.repositories[repo_id] = Repository(wanted["visibility"])
        return self._answer(url)

    def _in_repository(
        self, repository: Repository, repo_id: str, method: str, rest: list[str], body: bytes
    ) -> None:
        match method, rest[0]:
            case "GET", "tree":
                files = repository.files.items()
                self._answer([{"type": "file", "path": p, "size": len(b), "oid": "0"} for p, b in files])
            case "GET", "refs":
                tags = [{"name": n, "ref": n, "targetCommit": c} for n, c in repository.tags.items()]
                self._answer({"branches": [], "converts": [], "tags": tags})
            case "POST", "preupload":
                files = [
                    {"path": f["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if f["path"].endswith((".mp4", ".parquet")) else "regular"}
                    for f in json.loads(body)["files"]
                ]  # fmt: skip
                self._answer({"files": files})
            case "POST", "info":
                objects = []
                for each in json.loads(body)["objects"]:
                    known = each["oid"] in self.hub.blobs
                    upload = {"upload": {"href": f"{self.hub.endpoint}/lfs/{each['oid']}"}}
                    objects.append(each if known else {**each, "actions": upload})
                self._answer({"objects": objects, "transfer": "basic"})
            case "POST", "commit":
                self._commit(repository, repo_id, body)
            case "POST", "tag":
                repository.tags[json.loads(body)["tag"]] = rest[1]
                self._answer({})
            case "DELETE", "tag":
                del repository.tags[rest[1]]
                self._answer({})
            case other:
                self._answer({"error": f"cannot {other}"}, 404)

    def _commit(self, repository: Repository, repo_id: str, body: bytes) -> None:
        files = dict(repository.files)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        repository.files = files
        repository.commits.append(files)
        oid = f"{len(repository.commits):040x}"
        url = f"{self.hub.endpoint}/datasets/{repo_id}/commit/{oid}"
        self._answer({"commitUrl": url, "commitOid": oid, "success": True})

    def _answer(self, content: object, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
