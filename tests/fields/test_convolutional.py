"""Fields on images, against conv2d on (batch, channels, height, width)."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from cde_nets.fields import ConvFields

F64 = torch.float64


def polynomial(s, r):
    return sum(float(c) * r**j for j, c in enumerate(s))


def oracle(fields, image):
    """V_i of every image, field by field, shape (batch, count, channels, height, width)."""
    channels = fields.shape[0]
    y, pad = polynomial(fields.inner, image), fields.kernels.shape[-1] // 2
    out = torch.zeros(image.shape[0], fields.count, *fields.shape, dtype=F64)
    for i in range(fields.count):
        for c in range(channels):
            if fields.kernel == "dense":
                weight, offset = fields.kernels[i, c], fields.offsets[i, c]
            elif int(fields.outputs[i]) != c:
                continue
            elif fields.kernel == "row":
                weight, offset = fields.kernels[i], fields.offsets[i]
            else:
                weight, offset = torch.zeros(channels, *fields.kernels.shape[1:], dtype=F64), fields.offsets[i]
                weight[int(fields.inputs[i])] = fields.kernels[i]
            z = functional.conv2d(y, weight[None], padding=pad)[:, 0] + offset
            out[:, i, c] = polynomial(fields.outer[i], z)
    return out


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    kernel=st.sampled_from(["dense", "row", "stencil"]),
    form=st.sampled_from(["ridge", "shared"]),
    channels=st.integers(1, 3),
    height=st.integers(1, 4),
    width=st.integers(1, 5),
    count=st.integers(1, 7),
    size=st.sampled_from([1, 3, 5]),
    degree=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_fields_are_polynomials_of_convolutions_of_the_image(
    kernel, form, channels, height, width, count, size, degree, seed
):
    fields = ConvFields.random(
        channels, height, width, count, kernel=kernel, form=form, kernel_size=size, degree=degree, seed=seed, dtype=F64
    )
    image = normal(2, channels, height, width, seed=seed)
    want = oracle(fields, image)
    flat = image.permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(fields.flatten(image), flat)
    assert torch.equal(fields.unflatten(flat), image)
    values = fields.evaluate(flat)
    torch.testing.assert_close(values, want.permute(0, 1, 3, 4, 2).flatten(2), rtol=1e-10, atol=1e-10)
    u = normal(count, seed=seed + 1)
    velocity = fields.unflatten(fields.velocity(flat, u))
    torch.testing.assert_close(velocity, torch.einsum("i,bichw->bchw", u, want), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", ["dense", "row", "stencil"])
def test_channels_repeated_in_any_order_and_offsets_are_added_up(kernel):
    # Handmade: random() leaves the offsets of shared features at zero and goes round the channels in turn.
    lead = {"dense": (3, 3), "row": (3,), "stencil": ()}[kernel]
    fields = ConvFields(
        (3, 2, 4),
        normal(4, *lead, 3, 3),
        normal(4, 3) if kernel == "dense" else normal(4),
        torch.tensor([0.25, -1.0, 0.5, 2.0], dtype=F64),
        torch.tensor([[0.0, 1.0, 0.0]] * 4, dtype=F64),
        outputs=None if kernel == "dense" else torch.tensor([2, 0, 2, 2]),
        inputs=torch.tensor([1, 1, 0, 1]) if kernel == "stencil" else None,
    )
    assert fields.degree == 6
    image, u = normal(7, 3, 2, 4), normal(4, seed=1)
    assert fields.collapses(7, u) == (kernel != "stencil")
    flat, w = fields.flatten(image), normal(7, 24, seed=2)
    want = oracle(fields, image).permute(0, 1, 3, 4, 2).flatten(2)
    torch.testing.assert_close(fields.velocity(flat, u), torch.einsum("i,bim->bm", u, want))
    torch.testing.assert_close(fields.pullback(flat, u, w).control, torch.einsum("bm,bim->i", w, want))
    torch.testing.assert_close(fields.moments(flat, u, w), torch.einsum("bm,bim->i", w, want))


def test_the_shared_feature_is_the_exponential_series_without_its_constant():
    fields = ConvFields.random(1, 2, 2, 1, form="shared", degree=4, seed=0, dtype=F64)
    torch.testing.assert_close(fields.inner, torch.tensor([0, 1, 1 / 2, 1 / 6, 1 / 24], dtype=F64))
    assert fields.outer.tolist() == [[0.0, 1.0]]
    assert not fields.offsets.any()


@pytest.mark.parametrize("form", ["ridge", "shared"])
def test_orthogonal_kernels_of_one_output_are_orthogonal_and_of_one_length(form):
    # 2 channels, 1 x 1 kernels: groups of two; five fields an output make two full groups and a rest.
    fields = ConvFields.random(2, 2, 2, 10, kernel_size=1, form=form, orthogonal=True, seed=0, dtype=F64)
    length = {"ridge": 1 / 2, "shared": 1.0}[form]
    for channel in (0, 1):
        rows = fields.kernels[fields.outputs == channel].flatten(1)
        assert len(rows) == 5
        for start in (0, 2, 4):
            group = rows[start : start + 2]
            torch.testing.assert_close(group @ group.T, length * torch.eye(len(group), dtype=F64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kernel", ["dense", "row", "stencil"])
def test_stored_numbers_are_kernels_offsets_and_polynomials(kernel):
    fields = ConvFields.random(3, 4, 5, 6, kernel=kernel, degree=2, seed=0)
    numbers = {"dense": 9 * 9 + 3, "row": 3 * 9 + 1, "stencil": 9 + 1}[kernel] + 3
    assert fields.frozen_numbers == 6 * numbers + 2
    assert fields.dim == 60


def test_loading_other_nonlinearities_refreshes_what_the_host_knows_of_them():
    shared = ConvFields.random(2, 2, 3, 5, form="shared", degree=2, seed=0, dtype=F64)
    image, u, w = normal(4, 2, 2, 3), normal(5), normal(4, 12)
    state = copy.deepcopy(shared.state_dict())
    state["inner"] = torch.tensor([0.5, 2.0, -1.0], dtype=F64)
    shared.load_state_dict(state)
    assert shared.collapses(4, u)
    shared.to(F64)
    want = oracle(shared, image).permute(0, 1, 3, 4, 2).flatten(2)
    torch.testing.assert_close(shared.velocity(shared.flatten(image), u), torch.einsum("i,bim->bm", u, want))
    state["outer"] = normal(5, 2)
    shared.load_state_dict(state)
    assert not shared.collapses(4, u)
    want = oracle(shared, image).permute(0, 1, 3, 4, 2).flatten(2)
    torch.testing.assert_close(shared.velocity(shared.flatten(image), u), torch.einsum("i,bim->bm", u, want))
    torch.testing.assert_close(shared.moments(shared.flatten(image), u, w), torch.einsum("bm,bim->i", w, want))


def handmade(outputs):
    kernels, line = normal(2, 2, 3, 3), torch.tensor([0.0, 1.0], dtype=F64)
    return ConvFields((2, 2, 2), kernels, torch.zeros(2, dtype=F64), line, line.expand(2, 2), outputs=outputs)


def test_loading_other_channels_moves_the_fields():
    source, target = handmade(torch.tensor([1, 1])), handmade(torch.tensor([0, 1]))
    target.load_state_dict(source.state_dict())
    x = normal(1, 8)
    assert torch.equal(target.evaluate(x), source.evaluate(x))


def test_assigning_other_channels_moves_the_fields():
    source, target = handmade(torch.tensor([1, 1])), handmade(torch.tensor([0, 1]))
    target.load_state_dict(source.state_dict(), assign=True)
    x = normal(1, 8)
    assert torch.equal(target.evaluate(x), source.evaluate(x))


def test_digest_sees_the_shape_of_the_image():
    wide, high = (ConvFields.random(2, *shape, 4, seed=0, dtype=F64) for shape in [(2, 3), (3, 2)])
    x = normal(1, 12)
    assert not torch.allclose(wide.evaluate(x), high.evaluate(x))
    assert wide.digest() != high.digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": "round"}, "kernel must be one of dense, row, stencil; got 'round'"),
        ({"form": "square"}, "form must be one of ridge, shared; got 'square'"),
        ({"kernel_size": 4}, "kernel_size must be odd, so that the state keeps its size; got 4"),
        ({"kernel_size": 0}, "kernel_size must be an integer of at least 1; got 0"),
        ({"degree": 0}, "degree must be an integer of at least 1; got 0"),
        ({"channels": 0}, "channels must be an integer of at least 1; got 0"),
        ({"height": -1}, "height must be an integer of at least 1; got -1"),
        ({"width": 0}, "width must be an integer of at least 1; got 0"),
        ({"count": 0}, "count must be an integer of at least 1; got 0"),
    ],
)
def test_bad_choices_are_refused(bad_input, change, message):
    with pytest.raises(ValueError, match=message):
        ConvFields.random(**{"channels": 2, "height": 2, "width": 2, "count": 3, "seed": 0} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": torch.zeros(4, 2, 2, 2)}, r"odd square \(k, k\) .* got \(4, 2, 2, 2\)"),
        ({"kernels": torch.zeros(4, 2, 3, 1)}, r"odd square \(k, k\)"),
        ({"kernels": torch.zeros(3, 3)}, r"3 \(stencil\), 4 \(row\) or 5 \(dense\) axes; got \(3, 3\)"),
        ({"kernels": torch.zeros(4, 3, 3, 3)}, r"kernels must have shape \(4, 2, 3, 3\); got \(4, 3, 3, 3\)"),
        ({"kernels": torch.full((4, 2, 3, 3), torch.nan)}, "kernels holds NaN"),
        ({"offsets": torch.zeros(4, 2)}, r"offsets must have shape \(4\); got \(4, 2\)"),
        ({"outer": torch.zeros(3, 2)}, r"outer must have shape \(4, any\); got \(3, 2\)"),
        ({"outer": torch.zeros(4, 1)}, "degree of outer must be an integer of at least 1; got 0"),
        ({"inner": torch.ones(1)}, "degree of inner must be an integer of at least 1; got 0"),
        ({"inner": torch.zeros(2, dtype=F64)}, "differ in dtype"),
        ({"outputs": None}, "outputs must be given"),
        ({"inputs": torch.zeros(4, dtype=torch.int64)}, "inputs must be None"),
        ({"outputs": torch.tensor([0, 1, 2, 0])}, "outputs must hold 4 channels between 0 and 1"),
        ({"outputs": torch.tensor([0, -1, 1, 0])}, "outputs must hold 4 channels between 0 and 1"),
        ({"outputs": torch.tensor([0, 1])}, "outputs must hold 4 channels"),
        ({"shape": (2, 0, 2)}, r"shape\[1\] must be an integer of at least 1; got 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(bad_input, change, message):
    good = {
        "shape": (2, 2, 2),
        "kernels": torch.zeros(4, 2, 3, 3),
        "offsets": torch.zeros(4),
        "inner": torch.tensor([0.0, 1.0]),
        "outer": torch.zeros(4, 2),
        "outputs": torch.tensor([0, 1, 0, 1]),
    }
    assert ConvFields(**good).kernel == "row"
    with pytest.raises(ValueError, match=message):
        ConvFields(**good | change)


def test_images_of_another_shape_are_refused(bad_input):
    fields = ConvFields.random(2, 3, 4, 2, seed=0)
    with pytest.raises(ValueError, match=r"images of shape \(batch, 2, 3, 4\); got \(5, 2, 4, 3\)"):
        fields.flatten(torch.zeros(5, 2, 4, 3))


@pytest.mark.parametrize(("kernel", "entries", "pairs"), [("dense", 36, 1), ("row", 18, 2), ("stencil", 9, 4)])
def test_orthogonal_kernels_between_the_same_channels_are_orthonormal(kernel, entries, pairs):
    drawn = ConvFields.random(2, 3, 3, 12, kernel=kernel, orthogonal=True, form="shared", seed=0, dtype=F64)
    rows = drawn.kernels.flatten(1)
    outputs = torch.zeros(12) if drawn.outputs is None else drawn.outputs
    inputs = torch.zeros(12) if drawn.inputs is None else drawn.inputs
    groups = {(int(o), int(i)) for o, i in zip(outputs, inputs, strict=True)}
    assert len(groups) == pairs
    for output, source in groups:
        group = rows[(outputs == output) & (inputs == source)]
        # As long as independent draws are in the mean: a dense kernel has `channels` rows of unit length.
        length = entries / (9 if kernel == "stencil" else 18)
        torch.testing.assert_close(group @ group.T, length * torch.eye(len(group), dtype=F64))
