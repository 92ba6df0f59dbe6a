import gzip
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cde_nets.data
from cde_nets.data import cache as cache_module
from cde_nets.data import files, load_mnist
from cde_nets.data.cache import store


@pytest.mark.parametrize("packed", [False, True])
def test_cache_is_used(small, cache, packed):
    small.write(cache, packed=packed)
    mnist = load_mnist(notify=pytest.fail)
    assert (mnist.source, mnist.detail, mnist.complete) == ("cache", str(cache), True)


def test_cache_folder_is_poochs(cache):
    assert cache_module.cache_folder() == cache


def test_damaged_file_is_reported_and_not_used(small, cache, no_mlxtend):
    small.write(cache)
    (cache / files.TEST_IMAGES).write_bytes(b"damaged")
    heard = []
    with pytest.raises(cde_nets.data.DataUnavailableError, match=r"cache: .*found 7 bytes"):
        load_mnist(notify=heard.append, offline=True)
    assert [line for line in heard if str(cache / files.TEST_IMAGES) in line]


def test_warnings_are_logged_by_default(small, cache, no_mlxtend, caplog):
    small.write(cache)
    (cache / files.TEST_IMAGES).write_bytes(b"damaged")
    with pytest.raises(cde_nets.data.DataUnavailableError):
        load_mnist(offline=True)
    assert files.TEST_IMAGES in caplog.text


def test_store_replaces(cache):
    store(cache, "name", b"old")
    store(cache, "name", b"new")
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == {"name": b"new"}


@pytest.mark.parametrize("where", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_before_replace_leaves_the_old_file(cache, monkeypatch, where, error):
    store(cache, "name", b"old")

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(type(error)):
            store(cache, "name", b"new")
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == {"name": b"old"}


def test_a_killed_writer_leaves_nothing_that_is_used(cache):
    script = (
        "import os, sys, pathlib; from cde_nets.data.cache import store\n"
        "os.fsync = lambda _: os._exit(9)\n"
        "store(pathlib.Path(sys.argv[1]), 'name', b'half')"
    )
    root = Path(cde_nets.data.__file__).parents[2]
    command = [sys.executable, "-c", script, str(cache)]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, check=False).returncode == 9
    (part,) = cache.iterdir()
    assert part.name.endswith(".part")
    store(cache, "name", b"whole")
    assert part.exists(), "a young temporary file may be another process's"
    os.utime(part, (0, 0))
    store(cache, "other", b"whole")
    assert sorted(path.name for path in cache.iterdir()) == ["name", "other"]


def test_two_writers_and_a_reader(cache):
    contents = [bytes([value]) * 50_000 for value in range(2)]
    store(cache, "name", contents[0])
    writers = [threading.Thread(target=lambda c=c: [store(cache, "name", c) for _ in range(20)]) for c in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert (cache / "name").read_bytes() in contents
    assert [path.name for path in cache.iterdir()] == ["name"]


def test_damaged_packed_file_is_shadowed_by_what_is_fetched(small, cache):
    # A fetched file is stored plain, and the plain one is looked for first.
    small.write(cache, packed=True)
    (cache / f"{files.TEST_IMAGES}.gz").write_bytes(gzip.compress(b"damaged"))
    store(cache, files.TEST_IMAGES, small.raw[files.TEST_IMAGES])
    assert load_mnist(notify=pytest.fail).source == "cache"
