"""Authorization: the operations that each role may run, by operation id. An operation that is not listed is forbidden.

service/operations/table.py has the roles of the hot operations."""

from collections.abc import Mapping

ROLES: Mapping[str, frozenset[str]] = {
    "public": frozenset("validateCode".split()),
    "checkout": frozenset(
        "validateCode runBatch listActiveTimeSpecific listUsers getUser listUserCoupons listUserRedemptions".split()
    ),
    "manage": frozenset(
        (
            "createBook createCoupons listBooks listCoupons getBook patchBook getBookStats listBookRedemptions "
            "listBookNotices exportRedemptions uploadCodes uploadCoupons generateCodes listCodes exportCodes "
            "createUserSpecific createTimeSpecific generateCoupon listActiveTimeSpecific patchCoupon "
            "listCouponRedemptions createUser listUsers getUser "
            "patchUser deleteUser listUserCoupons listUserRedemptions getJob"
        ).split()
    ),
    "user": frozenset("validateCode runBatch getUser listUserCoupons listUserRedemptions".split()),
    "operate": frozenset(
        (
            "listKeys createKey rotateKey patchKey deleteKey getWorkspace patchWorkspace setTestClock getConsistency "
            "startReconcile getJob "
            "createWebhook listWebhooks getWebhook patchWebhook deleteWebhook rotateWebhookSecret testWebhook "
            "listDeliveries redeliver listAudit exportAudit"
        ).split()
    ),
}
SCOPES_OF_USERS = {"checkout": "user", "public": "public"}
"""Which role a user's token has by its issuer's word: what a checkout may, as far as it is about one user. None of the
others, whatever the token says."""


def roles_of(operation_id: str) -> tuple[str, ...]:
    """The roles whose bearers may do this, any of them. Raises KeyError for an operation that no role has."""
    found = tuple(role for role, operations in ROLES.items() if operation_id in operations)
    if not found:
        raise KeyError(f"no role may do {operation_id}")
    return found
