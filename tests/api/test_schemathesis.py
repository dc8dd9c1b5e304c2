"""The gateway answers as its OpenAPI document says, to data that fits and to data that does not."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from services.gateway.app import published
from tests.support.swarm import Swarm

document = schemathesis.openapi.from_dict(published("0"), config=SchemathesisConfig(seed=1))


@document.exclude(operation_id="stream").parametrize()
@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
def test_every_answer_is_one_that_the_document_describes(case: Case[Any], target: Swarm) -> None:
    case.call_and_validate(base_url=target.url, timeout=30)
