"""Documents classified on a citation graph by a recurrent network run to rest: ten ways to train it.

    python -m experiments.citation --data-dir FOLDER
    python -m experiments.citation --data-dir FOLDER --quick

Tables A2 and A3 of Liao et al., "Reviving and improving recurrent back-propagation", ICML 2018, made again. Every
document's state begins as 64 principal components of its words; a gated recurrent unit is shown the sum of its
neighbours' states, 100 times; a linear map reads the class. Few documents are labelled: 1% train, 49% validate, 50%
test. What differs between rows is only how the loss is differentiated. See `rows`.

What the paper leaves open is as in its authors' published code: Kaiming normal weights, no biases to begin with,
messages along every citation in both directions, the epoch chosen by the validation accuracy of every twentieth.

Subject: Equilibria
Source: Liao et al. 2018, appendix, section 3.3, Tables A2 and A3
"""

from experiments.citation.command import app

__all__ = ["app"]
