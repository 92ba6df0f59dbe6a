"""A citation graph, and how the CSR arrays of an npz file become one."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cde_nets.data.citation.npz import Array, read_npz

ARRAYS = (
    *(f"{of}_{part}" for of in ("adj", "attr") for part in ("data", "indices", "indptr", "shape")),
    "labels",
    "node_names",
    "class_names",
)
# Of features that are held dense, in numbers: Pubmed has ten million.
MAX_FEATURES = 1 << 27

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CitationGraph:
    """Documents that cite each other.

    Attributes:
        name: of the data set.
        edges: shape (2, count) int64: document edges[0, k] cites document edges[1, k]. No document cites itself, and
            none cites another twice; two that cite each other are two edges.
        features: shape (documents, words) float32, finite.
        labels: shape (documents,) int64, from 0 to classes - 1.
        class_names: of the classes, in the order of their labels.
        self_citations: how many edges from a document to itself the file had; they are not among `edges`.
        source: where it came from: "directory", "cache" or "download", and "memory" where it was given as bytes.
        detail: the path or the address.
        sha256: of the file.

    Raises:
        ValueError: other shapes or types, or numbers out of range.
    """

    name: str
    edges: Integers = field(repr=False)
    features: npt.NDArray[np.float32] = field(repr=False)
    labels: Integers = field(repr=False)
    class_names: tuple[str, ...]
    self_citations: int = 0
    source: str = "memory"
    detail: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        """Check shapes and ranges."""
        nodes = len(self.labels)
        for name, array, dtype, shape in (
            ("edges", self.edges, np.int64, (2, self.edges.shape[-1])),
            ("features", self.features, np.float32, (nodes, self.features.shape[-1])),
            ("labels", self.labels, np.int64, (nodes,)),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: found {array.dtype} {array.shape}, expected {np.dtype(dtype).name} {shape}")
        for name, array, count in (("edges", self.edges, nodes), ("labels", self.labels, len(self.class_names))):
            if array.size and not 0 <= array.min() <= array.max() < count:
                raise ValueError(f"{name}: found {array.min()} to {array.max()}, expected 0 to {count - 1}")
        if (self.edges[0] == self.edges[1]).any():
            raise ValueError("edges: found a document that cites itself, expected none")
        if not np.isfinite(self.features).all():
            raise ValueError("features: found NaN or infinity, expected finite numbers")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """How many."""
        return len(self.class_names)

    @property
    def words(self) -> int:
        """Features of a document."""
        return int(self.features.shape[1])

    @property
    def isolated(self) -> int:
        """Documents that neither cite nor are cited: in a sum over neighbours they hear zero."""
        return len(self) - len(np.unique(self.edges))

    def messages(self) -> Integers:
        """Edges in both directions, shape (2, 2 count): document [0, k] is heard by document [1, k].

        Two documents that cite each other hear each other twice, as in the graph files of Yang, Cohen and
        Salakhutdinov, "Revisiting semi-supervised learning with graph embeddings", ICML 2016, where every citation is
        listed once at each of its ends.
        """
        return np.concatenate([self.edges, self.edges[::-1]], axis=1)


def read_graph(
    raw: bytes,
    dataset: str,
    where: str,
    *,
    notify: Callable[[str], None],
    source: str = "memory",
) -> CitationGraph:
    """Reads a citation graph from an npz file of CSR arrays.

    The arrays are adj_data, adj_indices, adj_indptr, adj_shape (row i, column j: i cites j), attr_data, .. , attr_shape
    (documents by words), labels, node_names and class_names. A document that cites itself is not refused: Pubmed has
    some, and its published number of edges counts them. Such edges are left out, with a note, as no message need be
    sent to oneself by a cell that is given its own state. Documents without any edge are kept.

    Args:
        raw: the whole file.
        dataset: what to call the graph.
        where: what to call the file in errors.
        notify: told, in a sentence, of edges that were left out.
        source: see `CitationGraph`.

    Returns:
        The graph.

    Raises:
        ValueError: no npz file (see `read_npz`), arrays that are missing, unknown, or of another type or shape, CSR
            arrays that contradict themselves, an edge twice, labels out of range, or features that are not finite.
    """
    arrays = read_npz(raw, where)
    missing, unknown = (sorted(set(a) - set(b)) for a, b in ((ARRAYS, arrays), (arrays, ARRAYS)))
    if missing or unknown:
        raise ValueError(
            f"{where}: found {', '.join(sorted(arrays)) or 'no array'}; "
            f"missing {', '.join(missing) or 'none'}, unknown {', '.join(unknown) or 'none'}"
        )
    rows, columns, values, (nodes, others) = _csr(arrays, "adj", where)
    if nodes != others:
        raise ValueError(f"{where}: adj_shape: found {nodes} x {others}, expected a square")
    if (values != 1).any():
        raise ValueError(f"{where}: adj_data: found {values[values != 1][0]:g}, expected 1 for every citation")
    documents, words, counts, (described, width) = _csr(arrays, "attr", where)
    if described != nodes:
        raise ValueError(f"{where}: attr_shape: found {described} documents, expected {nodes}, those of adj_shape")
    if nodes * width > MAX_FEATURES:
        raise ValueError(f"{where}: attr_shape: found {nodes} x {width} numbers, expected at most {MAX_FEATURES}")
    class_names = _names(arrays, "class_names", where)
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise ValueError(f"{where}: class_names: found {', '.join(class_names)}, expected two or more, all different")
    if len(_names(arrays, "node_names", where)) != nodes:
        raise ValueError(f"{where}: node_names: found {len(arrays['node_names'])}, expected {nodes}")
    labels = _integers(arrays, "labels", where)
    if len(labels) != nodes:
        raise ValueError(f"{where}: labels: found {len(labels)}, expected {nodes}, one a document")
    if not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"{where}: labels: found {labels.min()} to {labels.max()}, expected 0 to {len(class_names) - 1}"
        )
    features = np.zeros((nodes, width), dtype=np.float32)
    features[documents, words] = counts
    if not np.isfinite(features).all():
        raise ValueError(f"{where}: attr_data: found a number beyond float32, expected finite numbers")
    own = rows == columns
    if own.any():
        notify(f"{where}: {int(own.sum())} documents cite themselves; these edges are left out")
    edges = np.stack([rows[~own], columns[~own]])
    digest = hashlib.sha256(raw).hexdigest()
    return CitationGraph(dataset, edges, features, labels, class_names, int(own.sum()), source, where, digest)


def _csr(arrays: dict[str, Array], of: str, where: str) -> tuple[Integers, Integers, Array, tuple[int, int]]:
    """Rows, columns and values of what is stored, and the shape.

    Raises:
        ValueError: arrays that are no CSR matrix, or hold a place twice.
    """
    shape = _integers(arrays, f"{of}_shape", where)
    if shape.shape != (2,) or shape.min() < 1:
        raise ValueError(f"{where}: {of}_shape: found {shape.tolist()}, expected two numbers of at least 1")
    height, width = (int(length) for length in shape)
    starts, columns = (_integers(arrays, f"{of}_{part}", where) for part in ("indptr", "indices"))
    values = arrays[f"{of}_data"]
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise ValueError(f"{where}: {of}_data: found {values.dtype} {values.shape}, expected numbers of one dimension")
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: {of}_data: found NaN or infinity, expected finite numbers")
    if len(values) != len(columns):
        raise ValueError(f"{where}: {of}_data: found {len(values)}, expected {len(columns)}, as many as {of}_indices")
    if len(starts) != height + 1:
        raise ValueError(f"{where}: {of}_indptr: found {len(starts)} numbers, expected {height + 1}")
    if starts[0] != 0 or starts[-1] != len(columns) or (np.diff(starts) < 0).any():
        raise ValueError(
            f"{where}: {of}_indptr: found {starts[0]} to {starts[-1]}"
            f"{', falling in between' if (np.diff(starts) < 0).any() else ''}, "
            f"expected numbers that rise from 0 to {len(columns)}"
        )
    if len(columns) and not 0 <= columns.min() <= columns.max() < width:
        raise ValueError(f"{where}: {of}_indices: found {columns.min()} to {columns.max()}, expected 0 to {width - 1}")
    rows = np.repeat(np.arange(height, dtype=np.int64), np.diff(starts))
    order = np.lexsort((columns, rows))
    same = (np.diff(rows[order]) == 0) & (np.diff(columns[order]) == 0)
    if same.any():
        row, column = rows[order][1:][same][0], columns[order][1:][same][0]
        raise ValueError(f"{where}: {of}_indices: found row {row}, column {column} twice, expected every place once")
    return rows, columns, values, (height, width)


def _integers(arrays: dict[str, Array], name: str, where: str) -> Integers:
    array = arrays[name]
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise ValueError(f"{where}: {name}: found {array.dtype} {array.shape}, expected integers of one dimension")
    if array.dtype.kind == "u" and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{where}: {name}: found {array.max()}, expected numbers that fit 64 bits with a sign")
    return array.astype(np.int64)


def _names(arrays: dict[str, Array], name: str, where: str) -> tuple[str, ...]:
    array: Any = arrays[name]
    if array.ndim != 1 or array.dtype.kind != "U":
        raise ValueError(f"{where}: {name}: found {array.dtype} {array.shape}, expected strings of one dimension")
    # Four bytes each, of whatever a file holds; above this there are no characters.
    codes = np.frombuffer(array.astype(array.dtype.newbyteorder("=")).tobytes(), dtype=np.uint32)
    if codes.max(initial=0) > sys.maxunicode:
        raise ValueError(f"{where}: {name}: found the code {codes.max()}, expected those of characters")
    return tuple(array.tolist())
