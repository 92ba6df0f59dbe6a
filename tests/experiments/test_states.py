"""What an experiment puts aside comes back as it was, or is refused by the file's name."""

import json
import math
import re
import struct

import pytest
import torch

from cde_nets.train.checkpoint import save_tensors
from experiments.states import KIND, read_state, write_state

CPU = torch.device("cpu")


def same(a, b):
    """Of the same types, with the same bits."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b) or (a.isnan() == b.isnan()).all()
    elif isinstance(a, dict):
        # In any order.
        assert set(a) == set(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, two in zip(a, b, strict=True):
            same(one, two)
    elif isinstance(a, float):
        assert struct.pack("d", a) == struct.pack("d", b)
    else:
        assert a == b


def test_a_state_comes_back_as_it_was(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    state = {
        "of": {"row": "x", "seeds": [1, 2], "rate": 0.1},
        "history": [[0.1, None, math.inf, -math.inf, math.nan, True], (1, (2.5, "text"))],
        "model": {"a": shared, "b": shared[:, :2], "c": torch.tensor([1, 2], dtype=torch.uint8)},
        "state": {0: {"step": torch.tensor(3.0)}, 1: {}, (2, "k"): "v"},
        "taken": {"$tensor": "no tensor", "$float": 3},
        "half": torch.tensor([1.0, math.nan], dtype=torch.bfloat16),
    }
    path = tmp_path / "state.safetensors"
    write_state(path, state)
    same(read_state(path, CPU, ("of", "model")), state)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimiser_goes_on_to_the_same_bits(tmp_path, make):
    def made():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        options = {"momentum": 0.9} if make is torch.optim.SGD else {"fused": True}
        return layer, make(layer.parameters(), lr=0.1, **options)

    def go(layer, descent, steps):
        for _ in range(steps):
            descent.zero_grad()
            layer(torch.ones(1, 3)).square().sum().backward()
            descent.step()

    layer, descent = made()
    go(layer, descent, 3)
    write_state(tmp_path / "s", {"layer": layer.state_dict(), "descent": descent.state_dict()})
    go(layer, descent, 3)
    again, other = made()
    state = read_state(tmp_path / "s", CPU, ("layer",))
    again.load_state_dict(state["layer"])
    other.load_state_dict(state["descent"])
    go(again, other, 3)
    assert torch.equal(again.weight, layer.weight)


def test_what_is_no_plain_value_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="got a set"):
        write_state(tmp_path / "s", {"a": {1}})
    assert not (tmp_path / "s").exists()


def test_damaged_states_are_refused_by_name(tmp_path):
    path = tmp_path / "s"
    write_state(path, {"of": "x", "values": torch.ones(2)})
    whole = path.read_bytes()
    for raw in (whole[:100], b"", b"cos\nsystem\n(S'true'\ntR.", whole.replace(b"of", b"fo")):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_state(path, CPU, ("of",))


@pytest.mark.parametrize(
    "state",
    [{"a": {"$tensor": "7"}}, {"a": {"$tensor": ["0"]}}, {"a": {"$tuple": 3}}, {"a": {"$float": "x"}},
     {"a": {"$items": [1]}}, {"a": {"$items": [{"$tensor": "0"}]}},
     {"a": {"$items": [[{}, 1]]}}, {"a": {"$tensor": "0", "b": 1}}, 3, None, [], {},
     json.loads("[" * 500 + "]" * 500)],
)  # fmt: skip
def test_forged_descriptions_are_refused_by_name(tmp_path, state):
    save_tensors(tmp_path / "s", KIND, {"0": torch.ones(2)}, {"state": state})
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "s"))):
        read_state(tmp_path / "s", CPU, ("a",))
