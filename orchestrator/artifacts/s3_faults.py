"""What went wrong at an S3 storage → why, and what to do.

Only codes and the classes of exceptions are told on, never the SDK's or the server's free text: a message may
hold an endpoint with a password in it, or what a request had in its headers, and ours reach clients.
"""

from __future__ import annotations

import re
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

FAULTS = (sdk.ClientError, sdk.BotoCoreError, ResponseParserError)
"""All that boto3 raises for a call; the last one is not derived from the others."""

_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
_RETRY = "try again; if that does not help, check the storage"
_PERMISSIONS = "check the credentials and the permissions listed in docs/artifacts.md"
_BUCKET = "create the bucket, or correct SANDBOX_ARTIFACTS_URL"
_REGION = "set AWS_DEFAULT_REGION to the bucket's region"
_ENDPOINT = "check AWS_ENDPOINT_URL_S3 and the network"
_ADVICE = {
    "AccessDenied": _PERMISSIONS,
    "AuthorizationHeaderMalformed": _REGION,
    "BadDigest": _RETRY,
    "ExpiredToken": _PERMISSIONS,
    "InvalidAccessKeyId": _PERMISSIONS,
    "InvalidDigest": _RETRY,
    "NoSuchBucket": _BUCKET,
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": _PERMISSIONS,
}
_KINDS: tuple[tuple[type[Exception], str, str], ...] = (
    (sdk.NoCredentialsError, "no credentials were found", _PERMISSIONS),
    (sdk.PartialCredentialsError, "the credentials are incomplete", _PERMISSIONS),
    (sdk.CredentialRetrievalError, "the credentials could not be fetched", _PERMISSIONS),
    (sdk.ReadTimeoutError, "it did not answer in time", _RETRY),
    (sdk.ConnectTimeoutError, "it could not be reached in time", _ENDPOINT),
    (sdk.SSLError, "its certificate is not accepted", "check AWS_ENDPOINT_URL_S3, and AWS_CA_BUNDLE for a private one"),
    (sdk.ConnectionError, "it cannot be reached", _ENDPOINT),
    (sdk.HTTPClientError, "the connection broke", _RETRY),
    (sdk.IncompleteReadError, "the connection broke", _RETRY),
    (ResponseParserError, "its answer is not S3's", _ENDPOINT),
)


def explain(error: Exception) -> str:
    """Return `why; what to do` for one of `FAULTS`."""
    if isinstance(error, sdk.ClientError):
        return _refusal(code(error), status(error))
    for kind, why, advice in _KINDS:
        if isinstance(error, kind):
            return f"{why}; {advice}"
    return f"the S3 client failed with {type(error).__name__}; check its settings (docs/artifacts.md)"


def _refusal(error_code: str, http_status: int) -> str:
    advice = _ADVICE.get(error_code) or (_PERMISSIONS if http_status in {401, 403} else _RETRY)
    return f"it answered {http_status} {error_code}; {advice}"


def code(error: sdk.ClientError) -> str:
    """The S3 error code, or `unknown` for what is none."""
    found = _error(error).get("Code")
    return found if isinstance(found, str) and _CODE.fullmatch(found) else "unknown"


def status(error: sdk.ClientError) -> int:
    """The HTTP status, 0 when the answer had none."""
    found = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found if isinstance(found, int) else 0


def _error(error: sdk.ClientError) -> dict[str, Any]:
    found = error.response.get("Error")
    return found if isinstance(found, dict) else {}
