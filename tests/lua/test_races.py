"""What a limit allows is exactly what happens, however many ask at once."""

from loadtests.harness.shop import Shop, tally, together


async def test_a_code_with_five_uses_is_redeemed_five_times(shop: Shop) -> None:
    """Of 200 simultaneous redeems of a code with 5 uses, 5 succeed and 195 hear coupon_exhausted."""
    await shop.book("FIVE-USES", max_redemptions_per_code=5)
    answers = await together(*(shop.redeem("FIVE-USES", f"u{n}", orderId=f"o{n}") for n in range(200)))
    assert tally(answers) == {201: 5, (409, "coupon_exhausted"): 195}


async def test_a_code_with_five_uses_is_locked_five_times(shop: Shop) -> None:
    """Of 200 simultaneous locks on a code with 5 uses, 5 get one and 195 hear coupon_locked."""
    await shop.book("FIVE-USES", max_redemptions_per_code=5)
    answers = await together(*(shop.lock("FIVE-USES", f"u{n}") for n in range(200)))
    assert tally(answers) == {201: 5, (409, "coupon_locked"): 195}
