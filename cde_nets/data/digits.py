"""scikit-learn's 1,797 digits of 8 x 8 pixels: small, and always at hand where scikit-learn is."""

import numpy as np

from cde_nets.data.mnist import MNIST, Dataset, split

VALIDATION_OF_DIGITS, TEST_OF_DIGITS = 200, 397


def load_digits(*, split_seed: int = 0) -> MNIST:
    """Loads the digits that scikit-learn ships (Alpaydin and Kaynak, UCI, 1998), offline.

    Args:
        split_seed: seed of the split of training and validation images. The last 397 of the 1,797 are the test images
            whatever the seed.

    Returns:
        The split data: 1,200, 200 and 397 images of 8 x 8; ``source`` is "scikit-learn".

    Raises:
        ImportError: scikit-learn is not installed; the message says how.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError('These digits are in scikit-learn: pip install "cde-nets[sklearn]"') from error
    bunch = datasets.load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.uint8)
    everything = Dataset(images[:-TEST_OF_DIGITS], labels[:-TEST_OF_DIGITS])
    test = Dataset(images[-TEST_OF_DIGITS:], labels[-TEST_OF_DIGITS:])
    train, validation = split(everything, VALIDATION_OF_DIGITS, split_seed)
    return MNIST(train, validation, test, "scikit-learn", "load_digits", complete=True)
