"""What all tests share."""

pytest_plugins = ["tests.embedded_fixtures", "tests.servers.fixtures"]
