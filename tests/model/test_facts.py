from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cnnkit.errors import ModelFileError
from cnnkit.model.facts import read_facts


def test_it_counts_what_torch_counts(trained):
    import cnnkit

    file = trained.run / "best.safetensors"
    facts, model = read_facts(file), cnnkit.load_model(file)
    assert facts.parameters == sum(parameter.numel() for parameter in model.module.parameters())
    assert facts.statistics == sum(buffer.numel() for buffer in model.module.buffers())
    assert facts.tensors == len(model.module.state_dict())
    assert facts.header == json.loads(model.header.model_dump_json())
    assert (facts.dtypes, facts.bytes) == (("F32",), file.stat().st_size)


def test_bare_weights_have_no_header():
    save_file(nn.BatchNorm2d(3).state_dict() | {"half": torch.zeros(2, 5, dtype=torch.float16)}, "x.safetensors")
    facts = read_facts(Path("x.safetensors"))
    assert facts.header is None
    assert (facts.parameters, facts.statistics, facts.tensors, facts.dtypes) == (16, 7, 6, ("F16", "F32"))


@pytest.mark.parametrize("header", ["[]", "1", '"text"'])
def test_a_header_that_is_no_object_is_refused_by_name(header):
    save_file({"a": torch.zeros(1)}, "x.safetensors", {"cnnkit": header})
    with pytest.raises(ModelFileError, match=r"x\.safetensors: its header is no JSON object; expected a best\.safetensors"):
        read_facts(Path("x.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 5) + b"{nix}",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        b"PK\3\4" + b"x" * 50,
    ],
)
def test_what_is_no_model_file_is_refused_by_name(content):
    Path("x.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"x.safetensors: not a .*safetensors file"):
        read_facts(Path("x.safetensors"))
    with pytest.raises(ModelFileError, match=r"y.safetensors: cannot be read: No such file"):
        read_facts(Path("y.safetensors"))
