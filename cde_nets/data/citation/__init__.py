"""Citation graphs as numpy arrays: documents, who cites whom, words and labels; no torch, no unpickling."""

from cde_nets.data.citation.graph import CitationGraph, read_graph
from cde_nets.data.citation.load import DATASETS, load_citation
from cde_nets.data.citation.npz import read_npz

__all__ = ["DATASETS", "CitationGraph", "load_citation", "read_graph", "read_npz"]
