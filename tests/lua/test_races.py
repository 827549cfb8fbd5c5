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


async def test_a_single_use_code_has_one_winner(shop: Shop) -> None:
    """Of 200 simultaneous locks on a single-use code one gets it; of 200 redeems by others none passes its lock."""
    await shop.book("ONLY-ONE")
    answers = await together(*(shop.lock("ONLY-ONE", f"u{n}") for n in range(200)))
    assert tally(answers) == {201: 1, (409, "coupon_locked"): 199}
    answers = await together(*(shop.redeem("ONLY-ONE", f"x{n}") for n in range(200)))
    assert tally(answers) == {(409, "coupon_locked"): 200}


async def test_a_books_total_is_spent_exactly(shop: Shop) -> None:
    """Of 200 simultaneous redeems of different codes of a book with a total of 5, 5 succeed, 195 hear out_of_stock."""
    codes = [f"CODE-{n:04}" for n in range(200)]
    await shop.book(*codes, max_redemptions=5)
    answers = await together(*(shop.redeem(code, f"u{code}") for code in codes))
    assert tally(answers) == {201: 5, (409, "out_of_stock"): 195}


async def test_a_books_total_is_locked_exactly(shop: Shop) -> None:
    """Of 200 simultaneous locks in a book with a total of 5, 5 get one, and only they can redeem."""
    codes = [f"CODE-{n:04}" for n in range(200)]
    await shop.book(*codes, max_redemptions=5)
    answers = await together(*(shop.lock(code, f"u{code}") for code in codes))
    assert tally(answers) == {201: 5, (409, "out_of_stock"): 195}
    answers = await together(*(shop.redeem(code, f"u{code}") for code in codes))
    assert tally(answers) == {201: 5, (409, "out_of_stock"): 195}


async def test_a_users_limit_is_spent_exactly(shop: Shop) -> None:
    """Of 200 simultaneous redeems by one user who may redeem 5 of the book, 5 succeed, 195 hear the user's limit."""
    codes = [f"CODE-{n:04}" for n in range(200)]
    await shop.book(*codes, max_redemptions_per_user=5)
    answers = await together(*(shop.redeem(code, "ann") for code in codes))
    assert tally(answers) == {201: 5, (422, "user_redemption_limit"): 195}


async def test_a_users_limit_is_locked_exactly(shop: Shop) -> None:
    """Of 200 simultaneous locks by one user who may redeem 5 of the book, 5 get one, and those can be redeemed."""
    codes = [f"CODE-{n:04}" for n in range(200)]
    await shop.book(*codes, max_redemptions_per_user=5)
    answers = await together(*(shop.lock(code, "ann") for code in codes))
    assert tally(answers) == {201: 5, (422, "user_redemption_limit"): 195}
    answers = await together(*(shop.redeem(code, "ann") for code in codes))
    assert tally(answers) == {201: 5, (422, "user_redemption_limit"): 195}


async def test_the_last_free_code_has_one_buyer(shop: Shop) -> None:
    """Of 200 buyers of the last free code of a book, one gets it and 199 hear out_of_stock."""
    book = await shop.book("LAST-ONE")
    answers = await together(*(shop.assign_any(book, f"u{n}") for n in range(200)))
    assert tally(answers) == {201: 1, (409, "out_of_stock"): 199}


async def test_free_codes_are_assigned_once_each(shop: Shop) -> None:
    """200 buyers of a book with 150 free codes get 150 different ones, and 50 hear out_of_stock."""
    codes = [f"CODE-{n:04}" for n in range(150)]
    book = await shop.book(*codes)
    answers = await together(*(shop.assign_any(book, f"u{n}") for n in range(200)))
    assert tally(answers) == {201: 150, (409, "out_of_stock"): 50}
    assert {body["code"] for status, body in answers if status == 201} == set(codes)


async def test_an_order_takes_one_coupon(shop: Shop) -> None:
    """Of 200 simultaneous redeems of different codes for one order, one succeeds."""
    codes = [f"CODE-{n:04}" for n in range(200)]
    await shop.book(*codes)
    answers = await together(*(shop.redeem(code, "ann", orderId="A-1") for code in codes))
    assert tally(answers) == {201: 1, (409, "order_already_used"): 199}


async def test_an_idempotency_key_acts_once(shop: Shop) -> None:
    """200 simultaneous redeems with one Idempotency-Key make one redemption and answer it 200 times."""
    book = await shop.book("MANY-USES", max_redemptions_per_code=None)
    answers = await together(*(shop.redeem("MANY-USES", "ann", key="k") for _ in range(200)))
    assert tally(answers) == {201: 200}
    assert len({body["redemptionId"] for _, body in answers}) == 1
    assert sum("replayed" in body for _, body in answers) == 199
    assert (await shop.stats(book))["redemptions"] == 1


async def test_a_rollback_happens_once(shop: Shop) -> None:
    """Of 200 simultaneous rollbacks of a redemption one succeeds, and the code has its use back once."""
    book = await shop.book("TWO-USES", max_redemptions_per_code=2)
    _, redemption = await shop.redeem("TWO-USES", "ann", orderId="A-1")
    answers = await together(*(shop.rollback(redemption["redemptionId"]) for _ in range(200)))
    assert tally(answers) == {200: 1, (409, "already_rolled_back"): 199}
    answers = await together(*(shop.redeem("TWO-USES", f"u{n}") for n in range(200)))
    assert tally(answers) == {201: 2, (409, "coupon_exhausted"): 198}
    assert (await shop.stats(book))["redemptions"] == 2
