"""Where this machine reaches who listens on an address."""

from __future__ import annotations

import pytest

from libs.settings.urls import is_http, url_of


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:4096"),
        ("192.168.1.5", "http://192.168.1.5:4096"),
        ("localhost", "http://localhost:4096"),
        ("0.0.0.0", "http://127.0.0.1:4096"),
        ("::1", "http://[::1]:4096"),
        ("::", "http://[::1]:4096"),
        ("2001:db8::5", "http://[2001:db8::5]:4096"),
    ],
)
def test_an_address_listened_on_is_reached_by_a_url(host: str, expected: str) -> None:
    assert url_of("http", host, 4096) == expected
    assert is_http(expected)
