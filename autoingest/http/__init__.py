"""What all listeners share: address, TLS, tokens, limits, and the form of their answers. The server is aiohttp's."""
