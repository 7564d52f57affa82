"""For development: embedded servers, the demo, the simulated camera."""
