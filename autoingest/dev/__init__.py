"""Development: servers of our own, the demo, the simulated camera."""
