"""Authorization: the operations that each role may run, by operation id.

documented.py and user_tokens.py read it. A controller's operation id must be listed here under the same name, else the
API does not start. table.py has the roles of the hot operations. Roles are the scopes of caller.py, and `user`.
"""

from collections.abc import Mapping

ROLES: Mapping[str, frozenset[str]] = {
    "public": frozenset("validateCode".split()),
    "checkout": frozenset(
        (
            "validateCode runBatch listActiveTimeSpecific listUsers getUser listUserCoupons listUserRedemptions "
            "getRedemption getOrder"
        ).split()
    ),
    "manage": frozenset(
        (
            "createBook createCoupons listBooks listCoupons getBook patchBook getBookStats listBookRedemptions "
            "listBookNotices exportRedemptions uploadCodes checkCodes uploadCoupons generateCodes changeCodes "
            "listCodes exportCodes createUserSpecific createTimeSpecific generateCoupon listActiveTimeSpecific "
            "patchCoupon listCouponRedemptions createUser listUsers getUser "
            "patchUser deleteUser listUserCoupons listUserRedemptions getRedemption getOrder getLedger "
            "getJob pauseJob resumeJob cancelJob exportJobResults "
            "reportRedemptions exportRedemptionReport reportFunnel exportFunnelReport "
            "reportLiability exportLiabilityReport"
        ).split()
    ),
    "user": frozenset(
        "validateCode runBatch getUser listUserCoupons listUserRedemptions getRedemption getOrder".split()
    ),
    "operate": frozenset(
        (
            "listKeys createKey rotateKey patchKey deleteKey getWorkspace patchWorkspace setTestClock getConsistency "
            "startReconcile listQuarantine resolveQuarantined findRefusedRequest getJob "
            "createWebhook listWebhooks getWebhook patchWebhook deleteWebhook rotateWebhookSecret testWebhook "
            "listDeliveries getDelivery redeliver listAudit exportAudit"
        ).split()
    ),
}
USER_TOKEN_ROLES = {"checkout": "user", "public": "public"}
"""The role of a user token by its `scope` claim. No claim gives a token another role."""


def list_roles(operation_id: str) -> tuple[str, ...]:
    """The roles that may run the operation; a caller needs one of them. Raises KeyError if no role may run it."""
    roles = tuple(role for role, operations in ROLES.items() if operation_id in operations)
    if not roles:
        raise KeyError(f"no role may run {operation_id}")
    return roles
