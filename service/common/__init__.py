"""Settings, logging and helpers without coupon logic."""
