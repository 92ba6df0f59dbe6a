"""Readers of data sets: IDX, npz, citation graphs, packages of npm."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.faults.mutate import damaged
from benchmarks.faults.readers.base import Maker, Reader, WrongError, same
from cde_nets.data import read_idx_file
from cde_nets.data.citation import read_graph, read_npz
from cde_nets.data.files import PublishedFile
from cde_nets.data.npm import MEMBERS, read_members


def _idx(folder: Path) -> Reader:
    shapes = ((7,), (3, 4, 5), (2, 3, 4, 5), (40, 28, 28))
    good = [struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) for shape in shapes]
    good = [head + bytes(k % 251 for k in range(int(np.prod(shape)))) for head, shape in zip(good, shapes, strict=True)]

    def make(rng: Random) -> bytes:
        raw, packed = rng.choice(good), rng.randrange(3)
        if packed == 2:
            return damaged(rng, gzip.compress(raw, mtime=0), good)
        # Damage before packing is met behind a checksum that is right.
        made = damaged(rng, raw, good)
        return gzip.compress(made, 1, mtime=0) if packed else made

    def read(path: Path, raw: bytes) -> None:
        array = read_idx_file(path)
        plain = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        same(array.tobytes(), plain[4 + 4 * array.ndim :], "values")
        same(array.shape, struct.unpack_from(f">{array.ndim}I", plain, 4), "shape")

    return Reader("IDX, plain and gzipped: `read_idx_file`", make, read)


def _graph_arrays() -> dict[str, Any]:
    return {
        "adj_data": np.ones(3), "adj_indices": np.array([1, 2, 3]), "adj_indptr": np.array([0, 1, 2, 3, 3]),
        "adj_shape": np.array([4, 4]), "attr_data": np.array([1.0, 0.5], np.float32),
        "attr_indices": np.array([0, 2]), "attr_indptr": np.array([0, 1, 1, 2, 2]), "attr_shape": np.array([4, 3]),
        "labels": np.array([0, 1, 0, 1]), "node_names": np.array(["a", "b", "c", "d"]),
        "class_names": np.array(["one", "two"]),
    }  # fmt: skip


def _zipped(members: list[tuple[str, bytes]]) -> bytes:
    held = io.BytesIO()
    # zipfile warns of a name that stands twice, which is meant.
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name), body)
    return held.getvalue()


def _npy(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


def _npz(folder: Path) -> Reader:
    members = [(f"{name}.npy", _npy(array)) for name, array in _graph_arrays().items()]
    bodies = [body for _, body in members]
    # What a pickle would be in: a reader that unpickled it would be seen to.
    objects = _npy(np.array([{"x": 1}, None], dtype=object))
    huge = members[0][1].replace(b"(3,)", b"(1099511627776,)")
    good = _zipped(members)

    def make(rng: Random) -> bytes:
        if rng.random() < 0.4:
            return damaged(rng, good, bodies)
        changed = list(members)
        place = rng.randrange(len(changed))
        name, body = changed[place]
        fault = rng.randrange(8)
        if fault == 0:
            name = rng.choice(("../outside.npy", "/outside.npy", "x.npy", "", "labels.npy", "a" * 60000, name[:-1]))
        elif fault <= 2:
            body = rng.choice((objects, huge, b"", rng.choice(bodies)))
        else:
            body = damaged(rng, body, bodies)
        changed[place] = name, body
        return _zipped(changed)

    def read(path: Path, raw: bytes) -> None:
        arrays = read_npz(raw, str(path))
        with np.load(path, allow_pickle=False) as found:
            same(sorted(arrays), sorted(found.files), "names")
            if any(arrays[name].tobytes() != found[name].tobytes() for name in arrays):
                raise WrongError("arrays that differ from NumPy's")
        graph = read_graph(raw, "fed", str(path), notify=lambda said: None)
        same(graph.sha256, hashlib.sha256(raw).hexdigest(), "digest")
        same(graph.edges.shape[1] + graph.self_citations, len(arrays["adj_indices"]), "edges")
        same(float(graph.features.sum()), float(arrays["attr_data"].astype(np.float32).sum()), "sum of the features")

    return Reader("npz, a citation graph: `read_npz`, `read_graph`", make, read)


def _tar(folder: Path) -> Reader:
    bodies = {"one": bytes(range(100)), "two": b"\0" * 700}
    wanted = [
        PublishedFile(name, len(body), hashlib.md5(body, usedforsecurity=False).hexdigest())
        for name, body in bodies.items()
    ]

    def packed(rng: Random) -> bytes:
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as archive:
            for name, body in bodies.items():
                member = tarfile.TarInfo(MEMBERS + name)
                if rng.random() < 0.3:
                    member.name = rng.choice((f"../../{name}", f"/outside/{name}", f"{MEMBERS}../{name}", "x" * 300))
                if rng.random() < 0.2:
                    member.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE))
                    member.linkname = rng.choice(("/etc/passwd", MEMBERS + name, "../../outside"))
                member.size = len(body) if member.isreg() else 0
                archive.addfile(member, io.BytesIO(body))
        return held.getvalue()

    def make(rng: Random) -> bytes:
        raw = packed(rng)
        return damaged(rng, raw, [raw]) if rng.random() < 0.7 else raw

    def read(path: Path, raw: bytes) -> None:
        same(read_members(raw, wanted), bodies, "files")

    return Reader("tar, a package of npm: `read_members`", make, read, named=False)


READERS: dict[str, Maker] = {"idx": _idx, "npz": _npz, "tar": _tar}
