import hashlib
import re
import socket
import threading
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
        self.ranges = True  # understand Range
        self.shift = 0  # continue at a wrong byte
        self.say_length = True
        self.drops = []  # for each request, after how many bytes the line breaks (None: never)
        self.statuses = []  # for each request, an HTTP error in place of the file (None: the file)
        self.asked = []  # the Range header of each request

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        number = len(server.asked)
        asked = self.headers.get("Range")
        server.asked.append(asked)
        status = server.statuses[number] if number < len(server.statuses) else None
        if status or self.path != "/file":
            return self.send_error(status or 404)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if start >= len(server.content):
            return self.send_error(416)
        start += server.shift if start else 0
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.say_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/x-test")
        self.end_headers()
        drop = server.drops[number] if number < len(server.drops) else None
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


@pytest.fixture
def part(path):
    path.parent.mkdir()
    return path.with_name("file.bin.part")


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
    assert len(server.asked) == 1
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_force(server, path):
    fetch(server.url, path, SHA)
    path.with_name("file.bin.part").write_bytes(DATA[:10])
    assert fetch(server.url, path, SHA, force=True) is True
    assert server.asked == [None, None]
    assert path.read_bytes() == DATA


def test_damaged_file_is_replaced(server, path, part):
    path.write_bytes(DATA[:-1])
    assert fetch(server.url, path, SHA) is True
    assert path.read_bytes() == DATA


def test_damaged_file_stays_until_the_new_one_is_right(server, path, part):
    path.write_bytes(b"old")
    server.content = b"wrong"
    with pytest.raises(FetchError):
        fetch(server.url, path, SHA)
    assert path.read_bytes() == b"old"


def test_a_part_is_continued(server, path, part, capsys):
    part.write_bytes(DATA[:300_001])
    fetch(server.url, path, SHA)
    assert server.asked == ["bytes=300001-"]
    assert path.read_bytes() == DATA
    assert is_alone(path)
    assert "file.bin: 100%" in capsys.readouterr().err


def test_a_complete_part_needs_no_server(path, part):
    part.write_bytes(DATA)
    fetch("http://127.0.0.1:9/file", path, SHA)
    assert path.read_bytes() == DATA
    assert is_alone(path)


def test_dropped_line_is_continued(server, path, pauses):
    server.drops = [200_000, 100_000]
    fetch(server.url, path, SHA)
    assert server.asked == [None, "bytes=200000-", "bytes=300000-"]
    assert path.read_bytes() == DATA
    assert pauses == [1.0, 1.0]  # each attempt brought something


def test_many_drops_with_progress_are_no_failure(server, path, pauses):
    server.drops = [60_000] * 8
    fetch(server.url, path, SHA, attempts=2)
    assert path.read_bytes() == DATA


def test_server_without_range(server, path, pauses):
    server.ranges = False
    server.drops = [200_000]
    fetch(server.url, path, SHA)
    assert server.asked == [None, "bytes=200000-"]
    assert path.read_bytes() == DATA


def test_server_without_range_that_always_drops_is_given_up(server, path, pauses):
    server.ranges = False
    server.drops = [200_000] * 100
    with pytest.raises(FetchError, match=r"the transfer ended after 200,000 of 512,000 bytes"):
        fetch(server.url, path, SHA, attempts=3)
    assert len(server.asked) == 4  # one with progress, three without
    assert path.with_name("file.bin.part").stat().st_size == 200_000  # for a better day


def test_server_without_length(server, path):
    server.say_length = False
    fetch(server.url, path, SHA)
    assert path.read_bytes() == DATA


def test_part_of_another_file_is_replaced(server, path, part):
    part.write_bytes(b"x" * 1000)
    fetch(server.url, path, SHA)
    assert server.asked == ["bytes=1000-", None]
    assert path.read_bytes() == DATA


def test_part_that_is_too_long(server, path, part, pauses):
    part.write_bytes(DATA + b"more")
    fetch(server.url, path, SHA)
    assert server.asked == [f"bytes={len(DATA) + 4}-", None]
    assert path.read_bytes() == DATA


def test_server_that_continues_at_the_wrong_byte(server, path, part, pauses):
    server.shift = 7
    part.write_bytes(DATA[:1000])
    fetch(server.url, path, SHA)
    assert server.asked == ["bytes=1000-", None]
    assert path.read_bytes() == DATA


def test_wrong_content(server, path):
    server.content = b"<html>log in first</html>"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(FetchError, match=r"not the expected file.*25 bytes of type application/x-test") as info:
        fetch(server.url, path, SHA)
    assert found in str(info.value)
    assert SHA in str(info.value)
    assert list(path.parent.iterdir()) == []
    assert len(server.asked) == 1


def test_wrong_content_over_a_bad_line_ends(server, path, pauses):
    server.content = b"y" * 100_000
    server.drops = [50_000, None] * 10
    with pytest.raises(FetchError, match="not the expected file"):
        fetch(server.url, path, SHA)
    assert list(path.parent.iterdir()) == []
    assert len(server.asked) == 4  # half, rest, and the same once more from the start


def test_404_is_final(server, path, pauses):
    url = server.url + "s"
    with pytest.raises(FetchError, match="HTTP 404 Not Found") as info:
        fetch(url, path, SHA)
    assert f"By hand: curl -L -o {path} {url}" in str(info.value)
    assert SHA in str(info.value)
    assert len(server.asked) == 1
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
    assert server.asked == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/file", "host/file"])
def test_other_addresses(path, url):
    with pytest.raises(ValueError, match="must begin with http:// or https://"):
        fetch(url, path, SHA)


def test_nonsense_address(path):
    with pytest.raises(FetchError, match="could not fetch http://host:port/file"):
        fetch("http://host:port/file", path, SHA)
