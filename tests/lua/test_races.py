"""What a limit allows is exactly what happens, however many ask at once."""

import pytest

from loadtests.harness.shop import Shop, tally, together


@pytest.mark.parametrize(("ask", "refusal"), [("redeem", "coupon_exhausted"), ("lock", "coupon_locked")])
async def test_a_code_with_five_uses_is_redeemed_or_locked_five_times(shop: Shop, ask: str, refusal: str) -> None:
    """Of 200 simultaneous redeems or locks of a code with 5 uses, 5 succeed and 195 hear why not."""
    await shop.book("FIVE-USES", max_redemptions_per_code=5)
    answers = await together(*(getattr(shop, ask)("FIVE-USES", f"u{n}", orderId=f"o{n}") for n in range(200)))
    assert tally(answers) == {201: 5, (409, refusal): 195}
