"""Every request's way in: who asks, may they do this, how often, and is the task theirs. The one place for it."""

from __future__ import annotations

import time
from http import HTTPStatus

from flask import g, request

from api import subprotocols
from api.callers import Permit
from api.errors import Refusal
from api.limits import Standing
from api.parts import parts
from api.peer import Peer, peer_of
from api.scopes import Rule, rule_of
from orchestrator import access
from orchestrator.access import ANYBODY, Caller, Credentials, Scope
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import tasks

CHALLENGE = 'Bearer realm="sandbox"'


def note_peer() -> None:
    """Find out where the request comes from."""
    g.peer = peer_of(request.remote_addr, request.scheme, dict(request.headers), parts().callers.proxies)


def admit() -> None:
    """Let the request through to its view, or refuse it: 401, 403, 404 for a task of somebody else's, 429."""
    if request.url_rule is None or request.method == "OPTIONS":  # nothing there; or a browser asks what it may send
        return
    rule = rule_of(request.endpoint)
    if rule.is_open:
        return
    g.caller = _caller()
    g.rule = rule
    _check_scopes(g.caller, rule)
    _check_task(g.caller, rule)


def caller() -> Caller:
    """Who makes the present request."""
    found: Caller = g.caller
    return found


def reach(scope: Scope) -> str | None:
    """Whose tasks the present request may touch in this way; None: everybody's."""
    return caller().reach(scope)


def may_see_causes() -> bool:
    """For an open route: may who asks be told why a part of the server is away (addresses, names of users)?

    Those who may look at the workers may, and this machine while the API is open to it alone. Refuses nobody, and
    raises `StoreUnavailable`.
    """
    callers, peer = parts().callers, g.peer
    if callers.may_be_nobody(peer):
        return parts().product.settings.is_local
    given = _credentials()
    token = callers.token_of(given) if given else None
    return token is not None and token.caller.may(Scope.WORKER_READ)


def permit() -> Permit:
    """For an answer that takes its time: may it go on?"""
    return parts().callers.permit(g.peer, None if caller().token_id is None else _credentials())


def _caller() -> Caller:
    peer: Peer = g.peer
    callers = parts().callers
    if callers.may_be_nobody(peer):
        return ANYBODY
    if _authorization() is None:
        raise _no_token(peer)
    given = _credentials()
    token = callers.token_of(given) if given else None
    if token is None:
        standing = callers.failed(peer)
        if standing.retry_after_seconds:
            raise _too_many(standing, f"too many unknown access tokens came from {peer.address}")
        raise _unknown_token()
    g.caller = token.caller  # for the log, whatever comes of it
    g.standing = callers.count(token)
    if g.standing and g.standing.retry_after_seconds:
        raise _too_many(g.standing, f"the access token {token.name} has used its {g.standing.limit} requests a minute")
    return token.caller


def _authorization() -> str | None:
    """The header, or what stands for it where a browser opens a WebSocket."""
    header = request.headers.get("Authorization")
    token = subprotocols.token_in(request.headers.get("Sec-WebSocket-Protocol", ""))
    return header if header is not None or token is None else f"Bearer {token}"


def _credentials() -> Credentials | None:
    scheme, _, text = (_authorization() or "").partition(" ")
    return access.read(text.strip()) if scheme.lower() == "bearer" else None


def _check_scopes(who: Caller, rule: Rule) -> None:
    for scope in rule.scopes:
        if not who.may(scope):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "forbidden",
                f"the access token {who.token_name} of {who.owner} may not do this: it lacks the scope {scope}; use "
                "one that has it, or ask the operator",
                {"missing_scope": scope.value},
                {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
            )


def _check_task(who: Caller, rule: Rule) -> None:
    """A task of somebody else's does not exist, for any route with a task in its address."""
    task_id = (request.view_args or {}).get("task_id")
    owner = who.reach(rule.scopes[-1])
    if task_id is None or owner is None:
        return
    with parts().product.database.read() as tx:
        if not tasks.exists(tx, task_id, owner=owner):
            raise TaskNotFound(task_id)


def _unknown_token() -> Refusal:
    return Refusal(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "the access token is none of this server's, was revoked, or has expired; ask the operator for another one",
        headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'},
    )


def _no_token(peer: Peer) -> Refusal:
    why = "this server takes requests with an access token only"
    if peer.relayed and not parts().callers.is_closed:
        why = "this server is open to its own machine only, and a proxy passed this request on"
    return Refusal(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        f"{why}; send one as `Authorization: Bearer …`, or give it to the CLI in SANDBOX_TOKEN or with --token behind "
        "the subcommand. The operator makes them with `sandbox token create`",
        headers={"WWW-Authenticate": CHALLENGE},
    )


def _too_many(standing: Standing, why: str) -> Refusal:
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limit_exceeded",
        f"{why}; try again in {standing.retry_after_seconds} s",
        headers=standing.headers(time.time()),
    )
