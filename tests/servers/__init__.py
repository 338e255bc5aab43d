"""Local servers that speak the protocols of the outside world, for tests. They listen on loopback only."""
