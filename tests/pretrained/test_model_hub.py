"""Pulling from the model hub: the real client against a small hub served here, then loading by the known name."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dcase_seld.cli.main import main
from dcase_seld.pretrained.catalogue import MARKER
from dcase_seld.pretrained.clap import load_clap
from dcase_seld.pretrained.fetch import check_model, wanted_model
from dcase_seld.pretrained.transformers_models import make_random_model

REPOSITORY, COMMIT = "laion/clap-htsat-unfused", "0" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """What a pull asks of a hub: what a repository holds, how large its files are, and the files."""

    folder = None
    asked = []  # noqa: RUF012

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if "/tree/" in path:
            files = [(file.name, file.stat().st_size) for file in self.folder.iterdir()]
            tree = [{"type": "file", "path": name, "size": size, "oid": COMMIT} for name, size in files]
            content = json.dumps(tree).encode()
        elif path.startswith("/api/models/"):
            files = [{"rfilename": name} for name in [file.name for file in self.folder.iterdir()]]
            content = json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": files}).encode()
        else:
            file = self.folder / path.rpartition("/")[2]
            content = file.read_bytes() if file.is_file() else None
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = tmp_path / "hub"
    make_random_model("clap", folder, seed=1)
    (folder / MARKER).unlink()  # a hub knows nothing of our markers
    (folder / "pytorch_model.bin").write_bytes(b"the same weights in another format")
    Hub.folder, Hub.asked = folder, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # As users of a mirror do; the client reads it when it is imported, so pulls run in a process of their own.
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("DCASE_SELD_CACHE", str(tmp_path / "cache"))
    yield folder
    server.shutdown()
    server.server_close()


def pull(name):
    command = [sys.executable, "-m", "dcase_seld.cli.main", "models", "pull", name]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_pull_then_load_by_name(hub):
    done = pull("clap")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    marker = json.loads((folder / MARKER).read_text())
    assert marker["revision"] == COMMIT and marker["source"] == REPOSITORY and marker["random_weights"] is False
    assert set(marker["files"]) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert (
        marker["files"]["model.safetensors"]["sha256"]
        == hashlib.sha256((hub / "model.safetensors").read_bytes()).hexdigest()
    )
    assert check_model(wanted_model("clap")).state == "intact"
    clap = load_clap("clap")
    assert not clap.random_weights and clap.fingerprint == load_clap(hub).fingerprint
    assert clap.fingerprint == load_clap(REPOSITORY).fingerprint
    assert torch.isfinite(clap.encode(torch.zeros(1, 2, 24000))).all()
    asked = len(Hub.asked)
    assert pull("clap").stdout == done.stdout and len(Hub.asked) == asked  # intact: nobody is asked again


def test_any_other_model_of_the_hub(hub):
    done = pull("someone/else")
    assert done.returncode == 0 and Path(done.stdout.strip()).name == "someone--else"
    assert load_clap("someone/else").dimension == 512
    shown = CliRunner().invoke(main, ["models", "list"]).output
    assert "someone/else" in shown
    checked = CliRunner().invoke(main, ["models", "check"])
    assert checked.exit_code == 0 and "someone/else" in checked.output


def test_a_repository_without_weights_is_refused_and_leaves_nothing(hub, tmp_path):
    (hub / "model.safetensors").unlink()
    (hub / "pytorch_model.bin").unlink()
    done = pull("clap")
    assert done.returncode == 1 and "has no single file of weights" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "cache" / "models").iterdir())
