import pytest
import torch

import cde_nets as cn


class Oracle(torch.nn.Module):
    """Answers what the first pixel says; it has no flows."""

    failed = torch.zeros((), dtype=torch.bool)

    def flows(self):
        return []

    def set_throw(self, throw):
        pass

    def forward(self, images):
        return torch.nn.functional.one_hot((images[:, 0, 0] * 255).round().long(), 3).float()


def images_that_say(answers):
    images = torch.zeros(len(answers), 28, 28, dtype=torch.uint8)
    images[:, 0, 0] = torch.tensor(answers, dtype=torch.uint8)
    return images


def test_accuracy_and_confusion(bad_input):
    done = cn.evaluate(Oracle(), images_that_say([0, 1, 2, 2, 1]), torch.tensor([0, 1, 2, 1, 1]), batch_size=2)
    assert done.accuracy == pytest.approx(4 / 5)
    assert done.confusion.tolist() == [[1, 0, 0], [0, 2, 1], [0, 0, 1]]
    assert done.failed == 0


def test_rows_that_failed_or_are_not_finite_are_wrong_and_counted(bad_input):
    class Spoiled(Oracle):
        def forward(self, images):
            logits = super().forward(images)
            logits[0] = float("nan")
            self.failed = torch.tensor([False, True, False, False])
            return logits

    done = cn.evaluate(Spoiled(), images_that_say([0, 1, 2, 2]), torch.tensor([0, 1, 2, 1]))
    assert done.failed == 2
    assert done.accuracy == pytest.approx(1 / 4)
    assert done.confusion.sum() == 2


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (3, 2)])
def test_nothing_to_evaluate(images, labels, bad_input):
    with pytest.raises(ValueError, match="as many labels as images"):
        cn.evaluate(Oracle(), images_that_say([0] * images), torch.zeros(labels, dtype=torch.int64))


def test_labels_of_no_class_and_errors_leave_flows_as_they_were(bad_input):
    with pytest.raises(ValueError, match=r"labels must lie between 0 and 2.* got labels from 0 to 3"):
        cn.evaluate(Oracle(), images_that_say([0, 1]), torch.tensor([0, 3]))

    class Broken(Oracle):
        def __init__(self):
            super().__init__()
            self.flow = torch.nn.Identity()
            self.flow.throw = True

        def flows(self):
            return [self.flow]

        def set_throw(self, throw):
            self.flow.throw = throw

        def forward(self, images):
            assert not self.flow.throw
            raise ValueError("of a wrong size")

    network = Broken()
    with pytest.raises(ValueError, match="of a wrong size"):
        cn.evaluate(network, images_that_say([0, 1]), torch.tensor([0, 1]))
    assert network.flow.throw
