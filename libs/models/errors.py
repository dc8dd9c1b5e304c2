"""Why a model cannot be fetched, converted or used, each with its cure.

```
ModelError
├── NotCovered          a family, a scaling or a format that cannot be converted here
├── SourceError         files of a model that are missing or not what they should be
├── HubError            the hub refused, or cannot be reached
├── TooLittle           not enough disk or memory; said before any is spent
└── ConversionFault     a conversion whose logits are not those of its source
```
"""

from __future__ import annotations


class ModelError(Exception):
    """Something about a model that cannot be done. Its text names the cause and the cure."""


class NotCovered(ModelError):
    """A family, a scaling or a format that cannot be converted here."""


class SourceError(ModelError):
    """Files of a model that are missing or not what they should be."""


class HubError(ModelError):
    """The hub refused, or cannot be reached."""


class TooLittle(ModelError):
    """There is not enough disk or memory; said before any is spent."""


class ConversionFault(ModelError):
    """A conversion whose logits are not those of its source."""
