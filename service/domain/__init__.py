"""Words and rules of coupons; imports nothing of ours."""
