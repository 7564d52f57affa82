"""What all listeners share: address, TLS, tokens, limits and the form of answers. The HTTP server itself is aiohttp."""
