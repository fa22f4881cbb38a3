"""What one API process knows about who calls: whether it is open, which token fits, how much each has asked for."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from api.limits import Buckets, Standing
from api.peer import Networks, Peer, networks
from orchestrator.access import Credentials, Token
from orchestrator.product import Product
from orchestrator.services.tokens import recognise
from orchestrator.store import tokens
from orchestrator.store.database import StoreUnavailable

FAILURES_PER_MINUTE = 60
"""Unknown tokens that one address may try. Who sends none at all tries nothing, and is not counted."""
MOST_KNOWN = 10_000
STANDING_SECONDS = 5.0
"""How long an answer that is still being sent may go on after its token was revoked."""


class Callers:
    """Thread-safe; one a process. Every method may raise `StoreUnavailable`."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._asked = Buckets()
        self._failed = Buckets()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self.is_closed = False
        self.proxies: Networks = networks(product.settings.trusted_proxies)

    def may_be_nobody(self, peer: Peer) -> bool:
        """True while no token was ever made, for this machine or whom the operator lets in without one.

        Asked anew each time, so the first token closes every process at once; from then on the answer stays.
        """
        if self.is_closed:
            return False
        with self._product.database.read() as tx:
            self.is_closed = tokens.any_exists(tx)
        settings = self._product.settings
        return not self.is_closed and (settings.allow_open or (settings.is_local and peer.is_local))

    def token_of(self, given: Credentials) -> Token | None:
        """The token of these credentials, looked up at each request: a revoked one is worthless at once."""
        token = recognise(self._product.database, given)
        if token is not None:
            self._remember(given)
        return token

    def locked_out(self, peer: Peer, given: Credentials) -> Standing | None:
        """Not None when so many unknown tokens came from the peer's address that no other is looked at now.

        Who was seen with these credentials goes on: one must not shut out all who are behind the same address.
        """
        failures = self._failed.standing(peer.network, FAILURES_PER_MINUTE)
        with self._lock:
            was_good = given.secret_sha256 in self._known
        return failures if failures.retry_after_seconds and not was_good else None

    def failed(self, peer: Peer) -> Standing:
        """Count a token that was none."""
        return self._failed.take(peer.network, FAILURES_PER_MINUTE)

    def count(self, token: Token) -> Standing | None:
        """Count a request of a token; None when it has no limit."""
        own = token.requests_per_minute
        limit = self._product.settings.rate_limit_per_minute if own is None else own
        return self._asked.take(token.id, limit) if limit else None

    def permit(self, peer: Peer, given: Credentials | None) -> Permit:
        """Whether an answer to this request may go on being sent, to be asked as often as one likes."""
        if given is None:
            return Permit(lambda: self.may_be_nobody(peer))
        return Permit(lambda: self.token_of(given) is not None)

    def _remember(self, given: Credentials) -> None:
        with self._lock:
            self._known[given.secret_sha256] = None
            self._known.move_to_end(given.secret_sha256)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)


class Permit:
    """Looks every few seconds whether a caller may still be here. A store that is away revokes nothing."""

    def __init__(self, check: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._clock = clock
        self._looked_at = clock()

    def holds(self) -> bool:
        now = self._clock()
        if now - self._looked_at < STANDING_SECONDS:
            return True
        self._looked_at = now
        try:
            return self._check()
        except StoreUnavailable:
            return True
