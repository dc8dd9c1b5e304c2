"""Reading safetensors with numpy, mapped into memory: nothing is read before it is used."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from libs.models.errors import SourceError
from libs.models.variables import DTYPES, Weight

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_HEADER_MOST = 100_000_000
"""Bytes of a header at most, as the safetensors library has it."""

_ITEM = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Weights(Protocol):
    """The tensors of a model under their Hugging Face names."""

    def __contains__(self, name: str) -> bool:
        """Whether there is such a tensor."""

    def __getitem__(self, name: str) -> Weight:
        """Return a tensor. Raises `SourceError` where there is none."""


def weight_files(names: Iterable[str], index: bytes | None) -> list[str]:
    """Return the names of the files that hold a model's weights, of those that a folder has.

    Raises `SourceError` where there is no safetensors file: pickles are never read.
    """
    present = set(names)
    if index is not None:
        try:
            files = sorted(set(json.loads(index)["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise SourceError(f"{INDEX} has no readable weight_map: {error!r}") from error
        missing = [file for file in files if file not in present]
        if missing:
            raise SourceError(f"{INDEX} names {missing[0]}, which is not there")
        return files
    if SINGLE in present:
        return [SINGLE]
    pickles = sorted(n for n in present if n.endswith((".bin", ".pt", ".pth")))
    has = (
        f"; it has {pickles[0]}, a pickle, and those can run code, so they are never read" if pickles else ""
    )
    raise SourceError(f"the model has no {SINGLE}{has}. Choose a repository with safetensors")


class Safetensors:
    """The tensors of a folder."""

    def __init__(self, folder: Path) -> None:
        index = folder / INDEX
        names = [path.name for path in folder.iterdir()]
        self._tensors: dict[str, Weight] = {}
        self.files = [
            folder / name for name in weight_files(names, index.read_bytes() if index.is_file() else None)
        ]
        for path in self.files:
            self._tensors.update(_tensors(path))

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Weight:
        try:
            return self._tensors[name]
        except KeyError:
            raise SourceError(f"the model's files have no tensor {name}") from None

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return sorted(self._tensors)

    @property
    def parameters(self) -> int:
        """Number of weights in the files."""
        return sum(int(np.prod(w.shape, dtype=np.int64)) for w in self._tensors.values())


def _tensors(path: Path) -> dict[str, Weight]:
    try:
        bytes_ = np.memmap(path, np.uint8, "r")
        (size,) = struct.unpack("<Q", bytes_[:8].tobytes())
        if size > min(_HEADER_MOST, len(bytes_) - 8):
            raise ValueError("the header is longer than the file")
        header = json.loads(bytes_[8 : 8 + size].tobytes())
        header.pop("__metadata__", None)
        body = bytes_[8 + size :]
        return {name: _tensor(body, name, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise SourceError(f"{path.name} is not a readable safetensors file: {error}") from error


def _tensor(body: Any, name: str, entry: dict[str, Any]) -> Weight:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _ITEM:
        raise ValueError(f"{name} has the type {dtype}; only {', '.join(_ITEM)} are covered")
    item = np.dtype(_ITEM[dtype])
    count = int(np.prod(shape, dtype=np.int64))
    if not 0 <= begin <= end <= len(body) or end - begin != count * item.itemsize:
        raise ValueError(f"{name} does not lie where the header says")
    # Offsets need not be multiples of the item's size: a copy of an unaligned tensor is made when it is used.
    return Weight(shape, DTYPES[dtype], lambda: np.frombuffer(body[begin:end].data, item))
