"""The rules of coupons and books; imports no other part of the service."""
