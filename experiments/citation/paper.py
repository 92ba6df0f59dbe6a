"""What the paper prints: Tables A2 and A3 of Liao et al., "Reviving and improving recurrent back-propagation", 2018."""

from __future__ import annotations

from cde_nets.data.citation import CitationGraph

# Nodes, edges, classes, features.
STATISTICS = {"cora": (2708, 5429, 7, 1433), "pubmed": (19717, 44338, 3, 500)}
COLUMNS = ("nodes", "edges", "classes", "features")

RUNS = 10
# Accuracy on Cora in percent, mean and spread of that many runs. The table says test accuracy and the text above it
# validation accuracy; the published code computes the best validation accuracy alone.
ACCURACY = {
    "baseline": (39.96, 3.4),
    "bptt": (24.48, 6.6),
    "tbptt": (46.55, 6.4),
    "uniform-artbp": (27.88, 3.2),
    "poisson-artbp": (42.22, 7.1),
    "rbp": (29.25, 3.3),
    "cg-rbp": (39.26, 6.5),
    "neumann-rbp": (46.63, 8.3),
}


def statistics(graph: CitationGraph) -> tuple[int, int, int, int]:
    """The graph's own row of Table A2; the published numbers of edges count documents that cite themselves."""
    return len(graph), graph.edges.shape[1] + graph.self_citations, graph.classes, graph.words
