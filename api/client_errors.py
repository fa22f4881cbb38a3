"""What the Python client raises. `exit_code` is what the `sandbox` command ends with (contract §7)."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx

_ADVICE = {
    401: "Something between you and the server asks who you are; ask the operator of it.",
    403: "Something between you and the server refused this; ask the operator of it.",
    413: "Make the manifest smaller, or put the data into the repository.",
    500: "Try again; if it stays, give the operator the request's id.",
    502: "Something between you and the server failed; try again.",
    503: "Try again in a moment; GET /api/v1/health/ready says what is missing.",
    504: "Something between you and the server failed; try again.",
}
_SAYS_WHAT_TO_DO = frozenset({401, 403})
"""Of these the server's own answers say it: a scope, a host name and an origin each need something else."""

_MAY_PASS = frozenset({429, 500, 502, 503, 504})


class ClientError(Exception):
    """Base of everything the client raises on purpose; the text says what failed, why and what to do."""

    exit_code: ClassVar[int] = 70


class ServerUnreachable(ClientError):
    """No usable answer came from the server at `url`; `why` says what happened instead."""

    exit_code = 5

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"cannot reach the server at {url}: {why}. Start one with `sandbox up`, or name another with "
            "--server or SANDBOX_SERVER."
        )
        self.url = url
        self.why = why


class ServerRefused(ClientError):
    """The server answered with an error (contract §3).

    `errors` holds every mistake of a refused manifest, `body` the whole answer (for `existing_task`,
    `task_state` and the like), `retry_after_seconds` what a 429 or 503 asks for; `known` is what an operator finds the
    refusal by: status, error and the request's id.
    """

    exit_code = 4

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        details: Any = None,
        request_id: str | None = None,
        errors: tuple[dict[str, Any], ...] = (),
        body: dict[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.known = f"{status} {error}" + (f", request {request_id}" if request_id else "")
        ours = "request_id" in (body or {})
        advice = "" if ours and status in _SAYS_WHAT_TO_DO else _ADVICE.get(status, "")
        if retry_after_seconds is not None:
            advice = f"Try again in {retry_after_seconds:g} s."
        candidates = details.get("candidates") if isinstance(details, dict) else None
        among = f": {', '.join(map(str, candidates))}" if candidates else ""
        super().__init__(f"{message}{among} ({self.known})" + (f" {advice}" if advice else ""))
        self.status = status
        self.error = error
        self.message = message
        self.details = details
        self.request_id = request_id
        self.errors = errors
        self.body = body or {}
        self.retry_after_seconds = retry_after_seconds

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in _MAY_PASS


class NotFound(ServerRefused):
    """404: no such task, artifact or address on this server."""

    exit_code = 3


class WaitTimedOut(ClientError):
    """The caller's own limit for waiting passed; the task is not affected."""

    exit_code = 124

    def __init__(self, task_id: str, seconds: float) -> None:
        super().__init__(
            f"task {task_id} has not ended within {seconds:g} s of waiting. It goes on; look at it with "
            f"`sandbox task status {task_id}`, stop it with `sandbox task cancel {task_id}`."
        )
        self.task_id = task_id
        self.seconds = seconds


class DownloadFailed(ClientError):
    """An artifact could not be brought to this machine."""


class UnsafeName(DownloadFailed):
    """An artifact's name, or what lies at its place, would lead outside the output directory."""


class ChecksumMismatch(DownloadFailed):
    """What arrived is not what the server stored; it was removed."""


def refusal(response: httpx.Response) -> ServerRefused:
    """Turn an answer that is no success, body already read, into the exception for it."""
    body = _error_body(response)
    kind = NotFound if response.status_code == httpx.codes.NOT_FOUND else ServerRefused
    return kind(
        response.status_code,
        str(body.get("error") or f"http_{response.status_code}"),
        str(body.get("message") or _foreign_message(response)),
        details=body.get("details"),
        request_id=body.get("request_id") or response.headers.get("x-request-id"),
        errors=tuple(one for one in body.get("errors") or () if isinstance(one, dict)),
        body=body,
        retry_after_seconds=_retry_after(response),
    )


def _error_body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _foreign_message(response: httpx.Response) -> str:
    """Describe an error that did not come from this product: a proxy, another server."""
    request = response.request
    if response.is_redirect:
        where = response.headers.get("location", "nowhere")
        return f"{request.url} redirects to {where}, which is not followed: give the final address with --server"
    return f"{request.method} {request.url} was answered {response.status_code} {response.reason_phrase}"


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
