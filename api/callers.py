"""What one API process knows about who calls: whether it is open, which token fits, how much each has asked for."""

from __future__ import annotations

import time
from collections.abc import Callable

from api.capacity import Places
from api.limits import Buckets, Standing
from api.peer import Networks, Peer, networks
from orchestrator.access import Credentials, Token
from orchestrator.product import Product
from orchestrator.services.tokens import recognise
from orchestrator.store import tokens
from orchestrator.store.database import StoreUnavailable

FAILURES_PER_MINUTE = 60
"""Unknown tokens that one address may try. Who sends none at all tries nothing, and is not counted."""
STANDING_SECONDS = 5.0
"""How long an answer that is still being sent may go on after its token was revoked."""


class Callers:
    """Thread-safe; one a process. Every method may raise `StoreUnavailable`."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._asked = Buckets()
        self._failed = Buckets()
        self.places = Places()
        self._was_closed = False
        self.proxies: Networks = networks(product.settings.trusted_proxies)

    @property
    def is_closed(self) -> bool:
        """True once a token was made: nobody gets in without one.

        Asked anew each time, so the first token closes every process at once; from then on the answer stays.
        """
        if not self._was_closed:
            with self._product.database.read() as tx:
                self._was_closed = tokens.any_exists(tx)
        return self._was_closed

    def may_be_nobody(self, peer: Peer) -> bool:
        """True while no token was ever made, for this machine or whom the operator lets in without one."""
        settings = self._product.settings
        return not self.is_closed and (settings.allow_open or (settings.is_local and peer.is_local))

    def token_of(self, given: Credentials) -> Token | None:
        """The token of these credentials, looked up at each request: a revoked one is worthless at once."""
        return recognise(self._product.database, given)

    def failed(self, peer: Peer) -> Standing:
        """Count a token that was none. A good one is never held up by this: many may share an address."""
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
