import functools
import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vkdnw_pl.commands import download as command
from vkdnw_pl.commands.download import DownloadOptions
from vkdnw_pl.errors import UsageError
from vkdnw_pl.option_parser import CommandParser
from vkdnw_pl.oracles import fetch, load_oracle, nb201_tables, timm_results
from vkdnw_pl.oracles.base import TableFile
from vkdnw_pl.oracles.nb201_tables import FILES

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "nb201"
A = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
NAMES = sorted(file.name for file in FILES.values())


def download(what, **options):
    return command.download(DownloadOptions(what=what, **options))


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; ``server.hold`` makes it stop in the middle of each file until the event is set."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile):
        data = source.read()
        outputfile.write(data[: len(data) // 2])
        outputfile.flush()
        self.server.hold.wait(30)
        outputfile.write(data[len(data) // 2 :])


@pytest.fixture
def serve(monkeypatch):
    """Makes a function that serves a folder and returns (server, URL)."""
    monkeypatch.setenv("no_proxy", "*")
    running = []

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        server.daemon_threads = True
        server.asked, server.hold = [], threading.Event()
        server.hold.set()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server, f"http://127.0.0.1:{server.server_port}/mirror"

    yield start
    for server, thread in running:
        server.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder to be served with small files that pass for the published ones."""
    folder = tmp_path / "www" / "mirror"
    folder.mkdir(parents=True)
    files = {}
    for number, (dataset, file) in enumerate(FILES.items()):
        entry = {"val_acc_200": 1.0, "test_acc_200": 60.0 + number, "rank": 1}
        data = json.dumps({A: entry}, indent=500).encode()
        (folder / file.name).write_bytes(data)
        files[dataset] = TableFile(file.name, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(nb201_tables, "FILES", files)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDNW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "sleep", lambda seconds: None)
    return tmp_path / "cache"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_into_the_cache_where_auto_finds_it(mirror, serve, cache, capsys):
    _, url = serve(mirror.parent)
    assert download("nb201", base_url=url) == 0
    assert names(cache / "nb201") == NAMES
    assert load_oracle("auto").accuracies("cifar100") == {A: 61.0}
    out = capsys.readouterr().out
    assert out.count("fetched and verified") == 3
    assert out.endswith("use them with: --space nb201 --oracle nb201\n")


def test_into_a_folder(mirror, serve, tmp_path, cache, capsys):
    _, url = serve(mirror.parent)
    assert download("nb201", out=tmp_path / "own", base_url=url + "/") == 0
    assert names(tmp_path / "own") == NAMES
    assert not cache.exists()
    assert load_oracle("nb201", tmp_path / "own").name == "nb201"
    assert f"--oracle nb201 --oracle_path {tmp_path / 'own'}" in capsys.readouterr().out


def test_second_time(mirror, serve, cache, capsys):
    server, url = serve(mirror.parent)
    download("nb201", base_url=url)
    (cache / "nb201" / NAMES[0]).write_bytes(b"damaged")
    server.asked.clear()
    capsys.readouterr()
    assert download("nb201", base_url=url) == 0
    assert server.asked == [f"/mirror/{NAMES[0]}"]
    assert capsys.readouterr().out.count("already there and right") == 2
    assert load_oracle("nb201").name == "nb201"


def test_force(mirror, serve):
    server, url = serve(mirror.parent)
    download("nb201", base_url=url)
    assert download("nb201", base_url=url, force=True) == 0
    assert len(server.asked) == 6


def test_404(mirror, serve, cache, capsys):
    (mirror / "nasbench201_cifar100.json").unlink()
    _, url = serve(mirror.parent)
    assert download("nb201", base_url=url) == 1
    assert names(cache / "nb201") == ["nasbench201_cifar10.json"]
    error = capsys.readouterr().err
    assert "download failed" in error
    assert f"{url}/nasbench201_cifar100.json: HTTP 404" in error
    assert "By hand: curl" in error


def test_corrupted_content(mirror, serve, cache, capsys):
    path = mirror / "nasbench201_cifar10.json"
    path.write_bytes(path.read_bytes().replace(b"60.0", b"90.0"))
    _, url = serve(mirror.parent)
    assert download("nb201", base_url=url) == 1
    assert names(cache / "nb201") == []
    error = capsys.readouterr().err
    assert hashlib.sha256(path.read_bytes()).hexdigest() in error
    assert nb201_tables.FILES["cifar10"].sha256 in error


def test_offline(cache, capsys):
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        assert download("nb201", base_url=url) == 1
    error = capsys.readouterr().err
    assert error.count("attempt ") == 4
    assert "refused" in error
    assert f"curl -L -o {cache / 'nb201' / 'nasbench201_cifar10.json'} {url}/nasbench201_cifar10.json" in error
    assert "from the same place: nasbench201_cifar100.json, nasbench201_imagenet.json" in error


def test_address_that_is_none():
    with pytest.raises(ValueError, match=r"url='ftp://host/nasbench201_cifar10\.json' is not allowed"):
        download("nb201", base_url="ftp://host")


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_stopped_in_the_middle(mirror, serve, tmp_path, stop, code):
    server, url = serve(mirror.parent)
    server.hold.clear()
    out = tmp_path / "own"
    program = [sys.executable, "-m", "vkdnw_pl", "download", "nb201", "--out", str(out), "--base_url", url]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    give_up_at = time.monotonic() + 30
    while not server.asked:
        assert time.monotonic() < give_up_at
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(stop)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code, error
    assert "Traceback" not in error
    assert ("the same command continues" in error) == (stop == signal.SIGINT)
    assert names(out) == []
    server.hold.set()
    assert download("nb201", out=out, base_url=url) == 0
    assert names(out) == NAMES


@pytest.mark.skipif(
    any(not (REAL / name).is_file() for name in NAMES), reason="the public NAS-Bench-201 tables are absent"
)
def test_the_published_files(serve, tmp_path, cache):
    folder = tmp_path / "www" / "mirror"
    folder.mkdir(parents=True)
    for name in NAMES:
        shutil.copyfile(REAL / name, folder / name)
    _, url = serve(folder.parent)
    assert download("nb201", base_url=url) == 0
    for name in NAMES:
        assert (cache / "nb201" / name).read_bytes() == (REAL / name).read_bytes()
    oracle = load_oracle("auto")
    assert oracle.name == "nb201"
    assert len(oracle.archs) == 15_625


def test_timm(serve, tmp_path, cache, capsys, monkeypatch):
    folder = tmp_path / "www" / "mirror"
    folder.mkdir(parents=True)
    files = {}
    for dataset, file in timm_results.FILES.items():
        data = b"model,img_size,top1\nmobilenetv2_100.ra_in1k,224,72.968\n"
        (folder / file.name).write_bytes(data)
        files[dataset] = TableFile(file.name, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(timm_results, "FILES", files)
    _, url = serve(folder.parent)
    assert download("timm", base_url=url) == 0
    assert names(cache / "timm") == sorted(file.name for file in files.values())
    assert load_oracle("auto", space="timm_zoo").accuracies("imagenetv2") == {"mobilenetv2_100": 72.968}
    assert capsys.readouterr().out.endswith("use them with: --space timm_zoo --oracle timm\n")


def test_as_a_command_line(tmp_path, capsys):
    parser = CommandParser(command.download, "vkdnw download")
    options = parser.parse(["nb201", "--out", str(tmp_path), "--force", "true"])
    assert options == DownloadOptions(what="nb201", out=tmp_path, base_url=None, force=True)
    with pytest.raises(UsageError, match=r"what=nb101 is not allowed: it takes .*nb201 or "):
        parser.parse(["nb101"])
    with pytest.raises(SystemExit):
        parser.parse(["--help"])
    text = capsys.readouterr().out
    assert "Fetch and verify public accuracy tables" in text
    for phrase in ("VKDNW_CACHE", "Address of a mirror", "Fetch the files anew"):
        assert phrase in text
