"""Against a web server on this machine that serves a made-up record, in ranges, and breaks off on demand."""

import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.corpus import download


def zipped(entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


NOISE = np.random.default_rng(0).bytes(300_000)


class Server:
    """Serves `files`; `break_at` maps a name to how many bytes of an answer come before the connection ends."""

    def __init__(self):
        self.files = {
            "stereo_dev.zip": zipped({"stereo_dev/dev-train-tau/a.wav": NOISE, "stereo_dev/dev-train-tau/b.wav": b"b"}),
            "metadata_dev.zip": zipped({"dev-train-tau/a.csv": b"frame,class\n"}),
            "README.md": b"read me",
        }
        self.break_at, self.asked, self.ranges, self.checksum, self.size = {}, [], True, {}, {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def record(self):
        return [
            {
                "key": name,
                "size": self.size.get(name, len(content)),
                "checksum": "md5:" + self.checksum.get(name, hashlib.md5(content).hexdigest()),
                "links": {"self": f"{self.url}/files/{name}"},
            }
            for name, content in self.files.items()
        ]

    def answer(self, request):
        name = request.path.rsplit("/", 1)[-1]
        if name == "record":
            content, first = json.dumps({"files": self.record()}).encode(), 0
        else:
            wanted = request.headers.get("Range")
            first = int(wanted[6:-1]) if wanted and self.ranges else 0
            self.asked.append((name, first))
            content = self.files[name][first:]
        request.send_response(206 if first else 200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        limit = self.break_at.get(name, len(content))
        request.wfile.write(content[:limit])
        request.close_connection = True


@pytest.fixture
def server():
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def get(server, out, **options):
    return download.download(out, record=f"{server.url}/record", quiet=True, pause_s=0.001, **options)


def test_fetches_checks_and_unpacks(server, tmp_path):
    assert get(server, tmp_path / "d") == ["stereo_dev.zip", "metadata_dev.zip", "README.md"]
    assert (tmp_path / "d" / "stereo_dev" / "dev-train-tau" / "a.wav").read_bytes() == NOISE
    # This archive has no folder of its own name inside.
    assert (tmp_path / "d" / "metadata_dev" / "dev-train-tau" / "a.csv").is_file()
    assert not list((tmp_path / "d").rglob("*.zip")) and not list((tmp_path / "d").rglob("*.part"))
    server.asked.clear()
    get(server, tmp_path / "d")
    assert server.asked == []


def test_goes_on_where_it_broke_off(server, tmp_path):
    server.break_at["stereo_dev.zip"] = 100_000
    get(server, tmp_path, only=["stereo"])
    assert [first for _, first in server.asked] == [0, 100_000, 200_000, 300_000]
    assert (tmp_path / "stereo_dev" / "dev-train-tau" / "a.wav").read_bytes() == NOISE


def test_next_run_goes_on_too(server, tmp_path):
    server.break_at["stereo_dev.zip"] = 10_000
    with pytest.raises(SeldError, match=r"broke off 5 times.*goes on from there"):
        get(server, tmp_path, only=["stereo"])
    assert (tmp_path / "stereo_dev.zip.part").stat().st_size == 50_000
    server.break_at.clear()
    server.asked.clear()
    get(server, tmp_path, only=["stereo"])
    assert server.asked == [("stereo_dev.zip", 50_000)]
    assert (tmp_path / "stereo_dev" / "dev-train-tau" / "a.wav").read_bytes() == NOISE


def test_server_without_ranges(server, tmp_path):
    (tmp_path / "stereo_dev.zip.part").write_bytes(b"x" * 5000)
    server.ranges = False
    get(server, tmp_path, only=["stereo"])
    assert (tmp_path / "stereo_dev" / "dev-train-tau" / "b.wav").read_bytes() == b"b"


def test_wrong_checksum_keeps_nothing_good_from_being_fetched_again(server, tmp_path):
    server.checksum["README.md"] = "0" * 32
    with pytest.raises(SeldError, match=r"README.md is not what the record says.*README.md.broken"):
        get(server, tmp_path, only=["README"])
    assert (tmp_path / "README.md.broken").is_file() and not (tmp_path / "README.md").exists()
    server.checksum.clear()
    get(server, tmp_path, only=["README"])
    assert (tmp_path / "README.md").read_bytes() == b"read me"


def test_disk_space_is_checked_first(server, tmp_path):
    server.size["stereo_dev.zip"] = 10**17
    with pytest.raises(SeldError, match=r"GB free; .* GB are needed"):
        get(server, tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "stereo_dev/../../evil", "C:/evil", "..\\evil"])
def test_unsafe_paths_are_refused(server, tmp_path, name):
    server.files["stereo_dev.zip"] = zipped({"stereo_dev/good.wav": b"g", name: b"evil"})
    with pytest.raises(SeldError, match="outside the folder"):
        get(server, tmp_path / "d", only=["stereo"])
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.rglob("good.wav"))


def test_links_are_refused(tmp_path):
    entry = zipfile.ZipInfo("stereo_dev/link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "stereo_dev.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(SeldError, match="is a link"):
        download.unzip(tmp_path / "stereo_dev.zip", tmp_path)


def test_broken_zip(tmp_path):
    (tmp_path / "stereo_dev.zip").write_bytes(b"PK\3\4" + NOISE[:100])
    with pytest.raises(SeldError, match="cannot be unpacked"):
        download.unzip(tmp_path / "stereo_dev.zip", tmp_path)


def test_zip_larger_than_the_disk(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped({"a/b": NOISE}))
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(SeldError, match="unpacks to"):
        download.unzip(tmp_path / "a.zip", tmp_path)


def test_unpacking_keeps_what_is_there(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"a/one": b"111", "a/two": b"22"}))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"own")
    download.unzip(tmp_path / "a.zip", tmp_path)
    assert (tmp_path / "a" / "one").read_bytes() == b"own" and (tmp_path / "a" / "two").read_bytes() == b"22"


def test_a_file_that_was_changed_is_not_replaced(server, tmp_path):
    label = tmp_path / "metadata_dev" / "dev-train-tau" / "a.csv"
    label.parent.mkdir(parents=True)
    label.write_text("frame,class\n1,2\n")
    (tmp_path / "README.md").write_text("my own notes")
    for only in ("metadata_dev", "README"):
        with pytest.raises(SeldError, match="is there already and is another file"):
            get(server, tmp_path, only=[only])
    assert label.read_text() == "frame,class\n1,2\n" and (tmp_path / "README.md").read_text() == "my own notes"


def test_unknown_name_and_unreachable_record(server, tmp_path):
    with pytest.raises(SeldError, match=r"no file that begins with vidio.*stereo_dev.zip, metadata_dev.zip"):
        get(server, tmp_path, only=["vidio"])
    with pytest.raises(SeldError, match="cannot be read"):
        download.list_files("http://127.0.0.1:1/record")
    with pytest.raises(SeldError, match="no web address"):
        download.list_files("file:///etc/passwd")


def test_unsafe_names_in_a_record(server):
    server.files["../evil"] = b""
    with pytest.raises(SeldError, match="unsafe"):
        download.list_files(f"{server.url}/record")
