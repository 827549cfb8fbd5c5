"""Settings, logs and small tools that know nothing of coupons."""
