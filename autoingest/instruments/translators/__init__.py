"""The rules of each camera, one module a camera."""
