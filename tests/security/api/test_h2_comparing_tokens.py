"""H2: how long a refusal takes must not tell how much of a secret was right."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from orchestrator import access
from orchestrator.access import Credentials, Scope, Token
from orchestrator.product import Product
from orchestrator.services import tokens


def test_h2_only_digests_of_secrets_are_compared_and_in_constant_time(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A digest of a wrong secret shares nothing with the right one that its sender could choose."""
    compared: list[tuple[object, object]] = []
    genuine = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return genuine(left, right)

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    token, text = tokens.create(product.database, name="n", owner="alice", scopes=[Scope.ADMIN])
    secret = text.rpartition("_")[2]
    right = hashlib.sha256(secret.encode()).hexdigest().encode()
    nearly = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    for given, known in ((secret, True), (nearly, False), ("0" * 64, False)):
        credentials = access.read(f"sbx_{token.id}_{given}")
        assert credentials is not None
        assert (tokens.recognise(product.database, credentials) is not None) is known
    digests = [hashlib.sha256(one.encode()).hexdigest().encode() for one in (secret, nearly, "0" * 64)]
    assert compared == [(digest, right) for digest in digests]


def test_h2_an_unknown_id_is_compared_like_a_known_one(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []

    def compare(left: bytes, right: bytes) -> bool:
        lengths.append((len(left), len(right)))
        return False

    token, text = tokens.create(product.database, name="n", owner="alice", scopes=[Scope.ADMIN])
    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    for given in (text, text.replace(token.id, "0" * 12)):
        credentials = access.read(given)
        assert credentials is not None
        assert tokens.recognise(product.database, credentials) is None
    assert lengths == [(64, 64), (64, 64)]


def test_h2_a_digest_that_fits_no_token_lets_nobody_in() -> None:
    """The digest that stands for a token that is not there could be sent, if a secret for it were known."""
    nobodys = Credentials("0" * 12, "0" * 64)
    assert nobodys.fit(None) is False


def test_h2_a_token_holds_256_random_bits_and_no_two_are_alike() -> None:
    texts = [access.generate()[0] for _ in range(1000)]
    assert len({text.split("_")[1] for text in texts}) == 1000
    secrets = {text.split("_")[2] for text in texts}
    assert len(secrets) == 1000
    assert {len(bytes.fromhex(secret)) for secret in secrets} == {32}


def test_h2_the_stored_digest_is_no_credential(product: Product) -> None:
    token, _ = tokens.create(product.database, name="n", owner="alice", scopes=[Scope.ADMIN])
    stored: Token = token
    credentials = access.read(f"sbx_{stored.id}_{stored.secret_sha256}")
    assert credentials is not None
    assert tokens.recognise(product.database, credentials) is None
