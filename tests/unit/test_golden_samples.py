"""The wire stays as it is: every message of `libs/contracts` has a sample in `tests/golden/wire`."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec
import pytest
from msgspec import Struct

import libs.contracts
from libs.contracts.permissions import Permissions
from libs.contracts.streams import StreamBounds, StreamSpec
from tests.golden.samples import SAMPLES, WIRE, file_of, shown

NOT_SENT = {Permissions, StreamBounds, StreamSpec}


def name_of(sample: Struct) -> str:
    return type(sample).__name__


def contracts() -> set[type[Struct]]:
    modules = [
        importlib.import_module(f"libs.contracts.{found.name}")
        for found in pkgutil.iter_modules(libs.contracts.__path__)
    ]
    return {
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Struct) and thing.__module__ == module.__name__
    }


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_a_message_is_encoded_as_its_sample(sample: Struct) -> None:
    assert shown(sample) == file_of(type(sample)).read_bytes()


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_a_sample_is_decoded_as_the_message(sample: Struct) -> None:
    wire = msgspec.json.format(file_of(type(sample)).read_bytes(), indent=-1)
    assert msgspec.json.decode(wire, type=type(sample)) == sample


def test_every_message_has_one_sample() -> None:
    kinds = [type(sample) for sample in SAMPLES]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == contracts() - NOT_SENT


def test_every_file_belongs_to_a_message() -> None:
    assert set(WIRE.iterdir()) == {file_of(type(sample)) for sample in SAMPLES}


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_a_later_version_may_add_fields(sample: Struct) -> None:
    """Old processes read what new ones send: unknown fields are passed over."""
    if type(sample).__struct_config__.array_like:
        longer = [*msgspec.json.decode(msgspec.json.encode(sample)), "new"]
        assert msgspec.json.decode(msgspec.json.encode(longer), type=type(sample)) == sample
    else:
        wider = msgspec.json.decode(msgspec.json.encode(sample), type=dict[str, msgspec.Raw])
        wider["added_later"] = msgspec.Raw(b"1")
        assert msgspec.json.decode(msgspec.json.encode(wider), type=type(sample)) == sample
