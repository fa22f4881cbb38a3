"""Signatures as the Standard Webhooks specification wants them; what its published test vectors say, we say."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

from orchestrator.webhooks.signing import headers, new_secret, secret_fault

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
AT = datetime.fromtimestamp(1614265330.9, UTC)


def test_the_vector_of_the_specifications_own_libraries_is_met() -> None:
    told = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", AT, BODY, SECRET)
    assert told == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_text_without_the_prefix_is_the_key_itself() -> None:
    secret = "schlüssel, mindestens so lang"
    told = headers("msg_1", AT, BODY, secret)["webhook-signature"]
    digest = hmac.new(secret.encode(), b"msg_1.1614265330." + BODY, hashlib.sha256).digest()
    assert told == f"v1,{base64.b64encode(digest).decode()}"


def test_without_a_secret_nothing_is_signed_and_the_rest_is_there() -> None:
    assert set(headers("msg_1", AT, BODY, "")) == {"webhook-id", "webhook-timestamp"}


def test_a_new_secret_has_256_bits_and_is_one_that_would_be_taken() -> None:
    one, other = new_secret(), new_secret()
    assert one != other
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32
    assert secret_fault(one) is None
