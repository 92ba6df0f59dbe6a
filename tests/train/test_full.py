import pytest

from cde_nets.nn import ImageNetworkConfig
from cde_nets.train import Run, TrainConfig, Trainer


@pytest.mark.full_data
def test_two_epochs_of_the_main_job(full_mnist, tmp_path, silent):
    """The default network on all of MNIST: the whole run takes minutes, two epochs show that it is on its way."""
    trainer = Trainer(Run(tmp_path / "run"), ImageNetworkConfig(), TrainConfig(epochs=2), full_mnist)
    trainer.start()
    result = trainer.fit(silent())
    assert result["trained_parameters"] <= 750
    assert result["test_accuracy"] > 0.9
