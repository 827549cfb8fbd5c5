"""Scrip: a coupon service that sells exactly as many uses as there are."""
