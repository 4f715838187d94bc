import hashlib
import http.server
import sys
import threading
import zipfile

import numpy as np
import pytest

from neuroalign.datasets import fetch as fetch_set
from neuroalign.datasets.cards import Card, CardFile, read_card
from neuroalign.datasets.fetch import check_file, download, fetch_card
from neuroalign.errors import ConfigError, IntegrityError
from neuroalign.storage import content_key

BODY = bytes(range(256)) * 300


class Handler(http.server.BaseHTTPRequestHandler):
    """A server with every fault that a download can meet, chosen by the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        name = self.path.lstrip("/")
        {"cut": self.cut, "slow-cut": self.cut, "error": self.error, "endless": self.endless}.get(name, self.other)()

    def other(self):
        location = self.server.redirects.get(self.path)
        if location is not None:
            self.reply(302, b"", location=location)
        else:
            content, kind = self.server.pages.get(self.path, (None, ""))
            self.reply(200 if content is not None else 404, content or b"<html>no</html>", kind=kind or "text/html")

    def reply(self, status, body, kind="application/octet-stream", location=None):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def cut(self):
        self.send_response(200)
        self.send_header("content-length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000])
        self.close_connection = True

    def error(self):
        self.reply(500, b"broken")

    def endless(self):
        self.send_response(200)
        self.send_header("connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(BODY)
        except OSError:
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("NEUROALIGN_TEST_DATA", raising=False)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.pages = {"/good.bin": (BODY, "application/octet-stream"), "/page": (b"<!DOCTYPE html><p>log in", "text/html")}
    httpd.redirects, httpd.asked = {}, []
    httpd.root = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def entry(url, body=BODY, name="good.bin", **more):
    """A file of a card, without the check that cards insist on https."""
    fields = {"obtain": None, "content": None, "unpack": None} | more
    sha256 = hashlib.sha256(body).hexdigest()
    return CardFile.model_construct(name=name, sha256=sha256, bytes=len(body), url=url, **fields)


def card_of(*files):
    real = read_card("rdm92-kriegeskorte").model_dump() | {"name": "demo", "files": files}
    return Card.model_construct(**real)


def get(server, path, target, **changes):
    download(entry(server.root + path, **changes), target, loopback_for_tests=True)


def test_a_good_download(server, tmp_path, capsys):
    get(server, "/good.bin", tmp_path / "deep" / "good.bin")
    assert (tmp_path / "deep" / "good.bin").read_bytes() == BODY
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["good.bin"]
    assert capsys.readouterr() == ("", "")


def test_a_redirect_within_the_rules(server, tmp_path):
    server.redirects["/moved"] = "/good.bin"
    get(server, "/moved", tmp_path / "good.bin")
    assert (tmp_path / "good.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("/good.bin", {"body": BODY[:-1] + b"x"}, "another sha256"),
        ("/good.bin", {"body": BODY[:-1]}, "more than the 76799 bytes"),
        ("/good.bin", {"body": BODY + b"x"}, "got: .*76800 bytes"),
        ("/page", {}, "web page"),
        ("/missing", {}, "HTTP 404"),
        ("/error", {}, "HTTP 500"),
        ("/cut", {}, "could not be downloaded"),
        ("/endless", {}, "more than the 76800 bytes"),
        ("/to-file", {}, "https only"),
        ("/to-http", {}, "https only"),
        ("/to-ftp", {}, "https only"),
        ("/loop", {}, "could not be downloaded"),
    ],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_a_bad_download_is_refused_and_the_earlier_file_kept(server, tmp_path, path, changes, words, earlier):
    server.redirects |= {
        "/to-file": "file:///etc/passwd",
        "/to-http": "http://localhost:1/x",
        "/to-ftp": "ftp://127.0.0.1/x",
        "/loop": "/loop",
    }
    target = tmp_path / "good.bin"
    if earlier:
        target.write_bytes(b"earlier")
    with pytest.raises(IntegrityError, match=words):
        get(server, path, target, **changes)
    assert [p.name for p in tmp_path.iterdir()] == ["good.bin"] * earlier
    if earlier:
        assert target.read_bytes() == b"earlier"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "file:///etc/passwd", "ftp://example.org/x", "//x", "x"])
def test_only_https_without_the_switch_for_tests(tmp_path, url):
    with pytest.raises(IntegrityError, match="https only"):
        download(entry(url), tmp_path / "x")


def test_plain_http_is_allowed_on_the_loopback_only(tmp_path):
    with pytest.raises(IntegrityError, match="https only"):
        download(entry("http://example.org/x"), tmp_path / "x", loopback_for_tests=True)


def test_nobody_listens(tmp_path, server):
    root = server.root
    server.shutdown()
    server.server_close()
    with pytest.raises(IntegrityError, match=r"could not be downloaded[\s\S]*NEUROALIGN_TEST_DATA"):
        download(entry(root + "/good.bin"), tmp_path / "x", loopback_for_tests=True)


def test_a_set_is_downloaded_once_and_repaired(server, tmp_path):
    server.pages["/b.txt"] = (b"bbb", "text/plain")
    card = card_of(entry(server.root + "/good.bin"), entry(server.root + "/b.txt", b"bbb", "b.txt"))
    assert fetch_card(card, tmp_path, loopback_for_tests=True) == tmp_path
    assert len(server.asked) == 2
    fetch_card(card, tmp_path, loopback_for_tests=True)
    assert len(server.asked) == 2
    (tmp_path / "b.txt").write_bytes(b"bad")
    fetch_card(card, tmp_path, loopback_for_tests=True)
    assert server.asked[2:] == ["/b.txt"]
    assert (tmp_path / "b.txt").read_bytes() == b"bbb"


def test_an_archive_is_unpacked(server, tmp_path):
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr("sub/x.txt", "hello")
    body = (tmp_path / "made.zip").read_bytes()
    server.pages["/a.zip"] = (body, "application/zip")
    card = card_of(entry(server.root + "/a.zip", body, "a.zip", unpack="data"))
    fetch_card(card, tmp_path / "set", loopback_for_tests=True)
    assert (tmp_path / "set" / "data" / "sub" / "x.txt").read_text() == "hello"


def test_a_file_without_an_address_is_asked_for_after_the_others_came(server, tmp_path):
    arrays = {"x": np.arange(3.0), "names": np.array(["a", "b"])}
    key = content_key(arrays)
    by_hand = entry(None, b"original bytes", "c.npz", obtain="Convert it once.", content=key)
    card = card_of(by_hand, entry(server.root + "/good.bin"))
    with pytest.raises(ConfigError, match=r"no public address[\s\S]*Convert it once[\s\S]*NEUROALIGN_TEST_DATA"):
        fetch_card(card, tmp_path, loopback_for_tests=True)
    assert (tmp_path / "good.bin").exists()
    np.savez(tmp_path / "c.npz", **arrays)  # other bytes, equal arrays
    fetch_card(card, tmp_path, loopback_for_tests=True)
    np.savez(tmp_path / "c.npz", **arrays | {"x": np.arange(3.0) + 1})
    with pytest.raises(ConfigError, match="another file"):
        fetch_card(card, tmp_path, loopback_for_tests=True)


def test_a_pickle_in_the_place_of_a_npz_is_not_opened(tmp_path):
    class Canary:
        def __reduce__(self):
            return (tmp_path.joinpath("canary").touch, ())

    np.savez(tmp_path / "c.npz", x=np.array([Canary()], dtype=object))
    with pytest.raises(IntegrityError, match="not the one"):
        check_file(tmp_path / "c.npz", entry(None, b"x", "c.npz", content="0" * 64))
    assert not (tmp_path / "canary").exists()


def test_the_local_copy_is_used_and_checked(real_data, monkeypatch, tmp_path):
    folder = real_data("objects81-fmri-alexnet-w2v")
    monkeypatch.setenv("NEUROALIGN_TEST_DATA", str(folder.parent))
    assert fetch_set(folder.name) == folder
    out = fetch_set(folder.name, out=tmp_path / "out")
    assert (out / "alexnet.mat").read_bytes() == (folder / "alexnet.mat").read_bytes()

    twin = tmp_path / "data" / folder.name
    twin.mkdir(parents=True)
    for path in out.iterdir():
        (twin / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("NEUROALIGN_TEST_DATA", str(twin.parent))
    assert fetch_set(folder.name) == twin
    (twin / "word2vec.mat").write_bytes(b"cut")
    with pytest.raises(IntegrityError, match=r"not the one[\s\S]*word2vec"):
        fetch_set(folder.name)
    (twin / "word2vec.mat").unlink()
    with pytest.raises(IntegrityError, match="lacks a file"):
        fetch_set(folder.name)


def test_the_cache_of_the_user_is_used_otherwise(monkeypatch, tmp_path):
    import sys

    from neuroalign.datasets import fetch as module_name  # noqa: F401

    module = sys.modules["neuroalign.datasets.fetch"]
    monkeypatch.delenv("NEUROALIGN_TEST_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path))
    asked = []
    monkeypatch.setattr(module, "download", lambda file, path, **kwargs: asked.append(path))
    fetch_set("rdm92-kriegeskorte")
    assert {path.parent for path in asked} == {tmp_path / "datasets" / "rdm92-kriegeskorte"}


def test_the_licence_is_shown_on_a_terminal(real_data, monkeypatch, capsys):
    folder = real_data("cocktail-party-eeg")
    monkeypatch.setenv("NEUROALIGN_TEST_DATA", str(folder.parent))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fetch_set("cocktail-party-eeg")
    assert "No licence stated" in capsys.readouterr().err
