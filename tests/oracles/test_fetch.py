import contextlib
import hashlib
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vkdnw_pl.oracles import fetch as fetch_module
from vkdnw_pl.oracles.fetch import FetchError, fetch

DATA = bytes(range(256)) * 2000  # 512,000 bytes
SHA = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` as /file; everything that can go wrong is an attribute."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = DATA
        self.say_length = True
        self.length = None  # what it says of the length, if that is not the truth
        self.status = 200
        self.to = None  # where it redirects to
        self.pause_s = 0.0  # after each byte
        self.drops = []  # for each request, after how many bytes the line breaks (None: never)
        self.statuses = []  # for each request, an HTTP error in place of the file (None: the file)
        self.requests = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        number = server.requests
        server.requests += 1
        status = server.statuses[number] if number < len(server.statuses) else None
        if status or self.path != "/file":
            return self.send_error(status or 404)
        body = server.content
        self.send_response(server.status if server.to is None else 302)
        if server.to is not None:
            self.send_header("Location", server.to)
            return self.end_headers()
        if server.say_length:
            self.send_header("Content-Length", server.length or str(len(body)))
        self.send_header("Content-Type", "application/x-test")
        self.end_headers()
        drop = server.drops[number] if number < len(server.drops) else None
        if server.pause_s:
            with contextlib.suppress(OSError):  # the reader has enough
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(server.pause_s)
            return None
        with contextlib.suppress(OSError):
            self.wfile.write(body[:drop])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def pauses(monkeypatch):
    """Takes down the pauses between attempts instead of making them."""
    made = []
    monkeypatch.setattr(fetch_module, "sleep", made.append)
    return made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file.bin"


def is_alone(path):
    return [p.name for p in path.parent.iterdir()] == [path.name]


def test_whole(server, path, capsys):
    assert fetch(server.url, path, SHA) is True
    assert path.read_bytes() == DATA
    assert is_alone(path)
    assert "file.bin: 100%" in capsys.readouterr().err


def test_right_file_is_left_alone(server, path):
    fetch(server.url, path, SHA)
    before = path.stat()
    assert fetch(server.url, path, SHA) is False
    assert server.requests == 1
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_force(server, path):
    fetch(server.url, path, SHA)
    assert fetch(server.url, path, SHA, force=True) is True
    assert server.requests == 2
    assert path.read_bytes() == DATA


def test_damaged_file_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(DATA[:-1])
    assert fetch(server.url, path, SHA) is True
    assert path.read_bytes() == DATA


def test_damaged_file_stays_until_the_new_one_is_right(server, path):
    path.parent.mkdir()
    path.write_bytes(b"old")
    server.content = b"wrong"
    with pytest.raises(FetchError):
        fetch(server.url, path, SHA)
    assert path.read_bytes() == b"old"


def test_dropped_line_is_tried_again(server, path, pauses):
    server.drops = [200_000, 100_000]
    fetch(server.url, path, SHA)
    assert server.requests == 3
    assert path.read_bytes() == DATA
    assert is_alone(path)
    assert pauses == [1.0, 2.0]


def test_server_that_always_drops_is_given_up(server, path, pauses):
    server.drops = [200_000] * 100
    with pytest.raises(FetchError, match=r"the transfer ended after 200,000 of 512,000 bytes"):
        fetch(server.url, path, SHA, attempts=3)
    assert server.requests == 3
    assert list(path.parent.iterdir()) == []


def test_server_without_length(server, path):
    server.say_length = False
    fetch(server.url, path, SHA)
    assert path.read_bytes() == DATA


def test_wrong_content(server, path):
    server.content = b"<html>log in first</html>"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(FetchError, match=r"not the expected file.*25 bytes of type application/x-test") as info:
        fetch(server.url, path, SHA)
    assert found in str(info.value)
    assert SHA in str(info.value)
    assert list(path.parent.iterdir()) == []
    assert server.requests == 1


def test_wrong_content_over_a_bad_line_ends(server, path, pauses):
    server.content = b"y" * 100_000
    server.drops = [50_000, None] * 10
    with pytest.raises(FetchError, match="not the expected file"):
        fetch(server.url, path, SHA)
    assert list(path.parent.iterdir()) == []
    assert server.requests == 2


def test_404_is_final(server, path, pauses):
    url = server.url + "s"
    with pytest.raises(FetchError, match="HTTP 404 Not Found") as info:
        fetch(url, path, SHA)
    assert f"By hand: curl -L -o {path} {url}" in str(info.value)
    assert SHA in str(info.value)
    assert server.requests == 1
    assert pauses == []


def test_busy_server(server, path, pauses):
    server.statuses = [503, 429, 500]
    fetch(server.url, path, SHA)
    assert path.read_bytes() == DATA
    assert pauses == [1.0, 2.0, 4.0]


def test_unreachable(path, pauses, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/file"
        with pytest.raises(FetchError) as info:
            fetch(url, path, SHA, attempts=3)
    text = str(info.value)
    assert f"could not fetch {url}" in text
    assert re.findall(r"attempt (\d): .*refused", text) == ["1", "2", "3"]
    assert "By hand" in text
    assert pauses == [1.0, 2.0]


def test_silent_server(path, pauses, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(FetchError, match="timed out"):
            fetch(url, path, SHA, attempts=2, timeout_s=0.05)


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "new").write_text("a file")
    with pytest.raises(FetchError, match=r"cannot write .*new/file\.bin"):
        fetch(server.url, tmp_path / "new" / "file.bin", SHA)
    assert server.requests == 0


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/file", "host/file"])
def test_other_addresses(path, url):
    with pytest.raises(ValueError, match="must begin with http:// or https://"):
        fetch(url, path, SHA)


def test_nonsense_address(path):
    with pytest.raises(FetchError, match="could not fetch http://host:port/file"):
        fetch("http://host:port/file", path, SHA)


@pytest.mark.parametrize("length", [None, "300000", str(10**12)])
def test_a_file_without_end_is_refused(server, path, pauses, length):
    server.content, server.say_length, server.length = bytes(300_000), length is not None, length
    with pytest.raises(FetchError, match="it sends more than the 200,000 bytes that are allowed"):
        fetch(server.url, path, SHA, most_bytes=200_000)
    assert pauses == []
    assert not path.exists()


@pytest.mark.parametrize("length", ["9" * 5000, "²", "-5", "many"])
def test_a_length_that_is_no_number(server, path, length):
    server.length = length
    assert fetch(server.url, path, SHA)
    assert path.read_bytes() == DATA


def test_a_length_beyond_the_end(server, path):
    server.length = str(10**30)
    with pytest.raises(FetchError, match="the transfer ended after 512,000 of"):
        fetch(server.url, path, SHA, attempts=1)


def test_a_part_that_nobody_asked_for(server, path, pauses):
    server.status = 206
    with pytest.raises(FetchError, match="HTTP 206 Partial Content, which is no whole file"):
        fetch(server.url, path, SHA)
    assert pauses == []
    assert not path.exists()


def test_a_server_that_drips(server, path, pauses):
    server.pause_s = 0.02
    began_at = time.monotonic()
    with pytest.raises(FetchError, match=r"attempt 2: ConnectionError: only \d+ bytes came in 0 s"):
        fetch(server.url, path, SHA, timeout_s=0.2, attempts=2)
    assert time.monotonic() - began_at < 5
    assert not path.exists()


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("ftp://127.0.0.1/file", "it redirects to ftp://127.0.0.1/file, which is neither http nor https"),
        ("file:///etc/passwd", "'file:///etc/passwd' is not allowed"),
        ("/file", "HTTP 302 .*infinite loop"),
    ],
)
def test_where_a_redirect_leads(server, path, pauses, to, text):
    server.to = to
    with pytest.raises(FetchError, match=f"(?s){text}"):
        fetch(server.url, path, SHA)
    assert pauses == []
    assert not path.exists()
