"""Addresses are shown without their secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidetect.detector.inputs.redact import redacted


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:secret@host/a.png", "https://***@host/a.png"),
        ("https://ghp_token@host/a.png", "https://***@host/a.png"),
        ("sftp://me:s@cret@host:22/a@b.png", "sftp://***@host:22/a@b.png"),
        ("abfs://container@account.dfs.core.windows.net/a.png", None),
        ("abfs://name:key@account/a.png", "abfs://***@account/a.png"),
        (
            "https://b.s3.amazonaws.com/a.png?X-Amz-Credential=AKIA%2Fx&X-Amz-Date=1&X-Amz-Signature=abc#f",
            "https://b.s3.amazonaws.com/a.png?X-Amz-Credential=***&X-Amz-Date=1&X-Amz-Signature=***#f",
        ),
        ("https://h/a?sv=1&sig=abc&se=2", "https://h/a?sv=1&sig=***&se=2"),
        ("https://h/a?access_token=abc", "https://h/a?access_token=***"),
        ("https://h/a?api_key=abc&size=3", "https://h/a?api_key=***&size=3"),
        ("https://h/a?monkey=1&design=2", None),
        ("s3://bucket/a@b.png", None),
        ("file:///home/me@x/a.png", None),
        ("a?token=b.png", None),
        ("scan 's3://b/x' 'https://u:p@h/y'", "scan 's3://b/x' 'https://***@h/y'"),
        ("me@example.org says http://h/a.png", None),
    ],
)
def test_secrets_are_left_out(address: str, shown: str | None) -> None:
    assert redacted(address) == (address if shown is None else shown)


@given(
    st.text(st.characters(categories=["L", "N"]), min_size=8), st.sampled_from(["token", "sig", "Signature"])
)
def test_no_signature_is_shown(secret: str, name: str) -> None:
    shown = redacted(f"https://{secret}:{secret}@host/a.png?x=1&{name}={secret}")
    assert secret not in shown
    assert shown.startswith("https://***@host/a.png?x=1&")


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)
