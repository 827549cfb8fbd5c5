"""Models of a coupon and of a limit."""

from collections.abc import Callable
from typing import NamedTuple

from loadtests.linear import Operation


class Coupon(NamedTuple):
    """A coupon, as far as redeeming goes."""

    limit: int
    used: frozenset[str] = frozenset()
    """Redemptions that hold a use."""
    over: frozenset[str] = frozenset()
    """Redemptions that were rolled back."""
    locks: frozenset[tuple[str, str, str]] = frozenset()
    """Token, user and order."""
    user: str = ""  # the owner
    off: bool = False


class Limit(NamedTuple):
    """Uses of an order, a user or a book."""

    limit: int
    used: frozenset[str] = frozenset()


def step_coupon(state: Coupon, done: Operation) -> Coupon | None:
    """A Step, as in linear.py."""
    return _STEPS[done.what](state, done)


def _redeemed(state: Coupon, done: Operation) -> Coupon | None:
    redemption, user, order, token = done.about
    own = {lock for lock in state.locks if lock[0] == token or (not token and lock[1:] == (user, order))}
    full = len(state.used) >= state.limit
    all_locked = not full and len(state.used) + len(state.locks - own) >= state.limit
    if done.outcome == "ok":
        if state.off or full or all_locked or (token and not own) or state.user not in ("", user):
            return None
        return state._replace(used=state.used | {redemption}, locks=state.locks - own)
    reasons = {
        "coupon_redeemed": full,
        "coupon_exhausted": full,
        "coupon_locked": all_locked and not own,
        "coupon_inactive": state.off,
        "lock_lost": not own,
    }
    return state if reasons.get(done.outcome, True) else None


def _assigned(state: Coupon, done: Operation) -> Coupon | None:
    return None if state.user or state.off or state.used else state._replace(user=done.about[0])


def _taken_back(state: Coupon, done: Operation) -> Coupon | None:
    return state._replace(user="") if state.user == done.about[0] and not state.used else state


def _unlocked(state: Coupon, done: Operation) -> Coupon:
    return state._replace(locks=frozenset(lock for lock in state.locks if lock[0] != done.about[0]))


def _switched_off(state: Coupon, done: Operation) -> Coupon:
    return state._replace(off=True)


def _locked(state: Coupon, done: Operation) -> Coupon | None:
    lock = done.about
    if done.outcome != "ok":
        return state
    others = {one for one in state.locks if one[1:] != lock[1:]}
    if state.off or len(state.used) + len(others) >= state.limit:
        return None
    return state._replace(locks=frozenset(others | {lock}))


def _rolled_back(state: Coupon, done: Operation) -> Coupon | None:
    redemption, restore = done.about
    match done.outcome:
        case "ok":
            if redemption in state.over or redemption not in state.used:
                return None
            used = state.used - {redemption} if restore else state.used
            return state._replace(used=used, over=state.over | {redemption})
        case "already_rolled_back":
            return state if redemption in state.over else None
        case _:
            return state


def _forgotten(state: Coupon, done: Operation) -> Coupon:
    """Undo a lost redemption, rollback, lock or assignment."""
    what = done.about[0]
    if what.startswith("rollback "):
        redemption = what.removeprefix("rollback ")
        return state._replace(over=state.over - {redemption}, used=state.used | {redemption})
    return state._replace(
        used=state.used - {what},
        over=state.over - {what},
        locks=frozenset(lock for lock in state.locks if lock[0] != what),
        user="" if state.user == what else state.user,
    )


def _looked(state: Coupon, done: Operation) -> Coupon | None:
    """Compare with the status read."""
    full, locked, given = len(state.used) >= state.limit, bool(state.locks), bool(state.user)
    seen = {
        "redeemed": full,
        "exhausted": full,
        "locked": locked and not full,
        "available": not full and not locked and not given,
        "assigned": not full and not locked and given,
    }
    return state if seen.get(done.outcome, True) else None


_STEPS: dict[str, Callable[[Coupon, Operation], Coupon | None]] = {
    "redeem": _redeemed,
    "lock": _locked,
    "unlock": _unlocked,
    "assign": _assigned,
    "take back": _taken_back,
    "off": _switched_off,
    "rollback": _rolled_back,
    "forget": _forgotten,
    "look": _looked,
}


def step_limit(state: Limit, done: Operation) -> Limit | None:
    """A Step, as in linear.py."""
    match done.what, done.outcome:
        case "take", "ok":
            return None if len(state.used) >= state.limit else state._replace(used=state.used | {done.about[0]})
        case "take", _:
            return state if len(state.used) >= state.limit else None
        case _:
            return state._replace(used=state.used - {done.about[0]})
