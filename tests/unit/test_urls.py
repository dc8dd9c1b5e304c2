"""Where this machine reaches who listens on an address."""

from __future__ import annotations

import pytest

from libs.settings.urls import is_http, reached_at, url_of


@pytest.mark.parametrize(
    ("host", "at", "url"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:4096"),
        ("192.168.1.5", "192.168.1.5", "http://192.168.1.5:4096"),
        ("localhost", "localhost", "http://localhost:4096"),
        ("gateway.example", "gateway.example", "http://gateway.example:4096"),
        ("0.0.0.0", "127.0.0.1", "http://127.0.0.1:4096"),
        ("", "127.0.0.1", "http://127.0.0.1:4096"),
        ("::1", "::1", "http://[::1]:4096"),
        ("[::1]", "::1", "http://[::1]:4096"),
        ("::", "::1", "http://[::1]:4096"),
        ("[::]", "::1", "http://[::1]:4096"),
        ("0:0:0:0:0:0:0:0", "::1", "http://[::1]:4096"),
        ("2001:db8::5", "2001:db8::5", "http://[2001:db8::5]:4096"),
    ],
)
def test_an_address_listened_on_is_reached_by_a_url(host: str, at: str, url: str) -> None:
    assert reached_at(host) == at
    assert url_of("http", host, 4096) == url
    assert is_http(url)
