"""What these tests share with those of the product."""

pytest_plugins = ["tests.harness.plugin"]
