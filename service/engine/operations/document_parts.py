"""Examples that several operations and controllers share in the OpenAPI document."""

from typing import Any

from service.engine.domain.settings import in_json
from service.engine.formats.events import SENT

BOOK_ID = "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"
COUPON: dict[str, Any] = {
    "code": "SUMMER-7QX2",
    "bookId": BOOK_ID,
    "status": "assigned",
    "userId": "user-42",
    "redemptions": 0,
    "maxRedemptions": 1,
    "lock": None,
    "assignedAt": "2026-11-20T09:14:00.123Z",
    "expiresAt": "2036-12-01T00:00:00.000Z",
    "lastRedemption": None,
    "balance": None,
}
LOCK = {
    "lockToken": "q1W2e3R4t5Y6u7I8",
    "code": "SUMMER-7QX2",
    "bookId": BOOK_ID,
    "userId": "user-42",
    "orderId": "A-1001",
    "lockSeconds": 300,
    "expiresAt": "2026-11-20T09:19:00.123Z",
    "orderValue": "120.00",
    "currency": "USD",
    "discountAmount": "24.00",
    "finalAmount": "96.00",
    "amount": None,
}
UNDER_LOCK = {"lockToken": "lockToken-of-the-answer-to-lock"}
"""In a request: a made-up token would be refused, and would not say where the right one is."""
REDEMPTION: dict[str, Any] = {
    "redemptionId": "019aa0b3-0d1e-7c44-9b1f-6b1d2f0c5a77",
    "code": "SUMMER-7QX2",
    "bookId": BOOK_ID,
    "userId": "user-42",
    "orderId": "A-1001",
    "orderValue": "120.00",
    "currency": "USD",
    "discountAmount": "24.00",
    "finalAmount": "96.00",
    "balanceAfter": None,
    "redeemedAt": "2026-11-20T09:15:30.456Z",
    "rolledBackAt": None,
    "ipAddress": "192.0.2.7",
    "userAgent": "checkout/1.4",
    **in_json({name: field.sent.example for name, field in SENT.items()}),
}
GIFT_COUPON = COUPON | {
    "code": "GIFT-4XK9",
    "bookId": "019aa0b2-7a11-7d3e-8c1b-2f60a1b9e0d4",
    "assignedAt": "2026-11-20T09:15:30.456Z",
}
ORDER = {"userId": "user-42", "orderId": "A-1001", "orderValue": "120.00", "currency": "USD"}
