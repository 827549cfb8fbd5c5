"""Which fencing an epoch gets (service/hot/fencing.py)."""

import msgspec
import pytest

from service.hot.fencing import Fencing, choose_nonce, parse_nonce
from service.hot.fitness import Replica, Replication

_ONLINE = Replica("10.0.0.7:6379", True, 5)
_ALONE = Replication(is_primary=True, history="a" * 40, former="", count=0, replicas=(), offset=9, is_clustered=False)
_FOLLOWED = msgspec.structs.replace(_ALONE, count=1, replicas=(_ONLINE,))


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (_ALONE, ""),
        (_FOLLOWED, "lag"),
        (msgspec.structs.replace(_FOLLOWED, former="b" * 40), "lag"),
        (msgspec.structs.replace(_ALONE, former="b" * 40), "postgres"),
        (msgspec.structs.replace(_FOLLOWED, count=2, replicas=(_ONLINE, _ONLINE)), "postgres"),
        (msgspec.structs.replace(_FOLLOWED, replicas=(Replica(_ONLINE.address, False, 5),)), "postgres"),
        (msgspec.structs.replace(_FOLLOWED, replicas=()), "postgres"),
        (msgspec.structs.replace(_FOLLOWED, is_clustered=True), "postgres"),
        (msgspec.structs.replace(_ALONE, is_clustered=True), "postgres"),
    ],
)
def test_the_fencing_of_an_epoch(server: Replication, expected: Fencing) -> None:
    """With `lag`, exactly one replica that is online confirms epochs, and none in a cluster; else Postgres does. The
    nonce says so, and fits that server."""
    nonce = choose_nonce("0123456789abcdef" * 2, "lag", server)
    assert (nonce.fencing, parse_nonce(str(nonce))) == (expected, nonce)
    assert nonce.fits(server)
