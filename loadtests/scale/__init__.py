"""Servers, money and limits for a number of redemptions a day. It computes docs/scale.md and measures nothing."""
