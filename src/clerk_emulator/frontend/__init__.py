"""What browsers meet: hosted pages, the handshake, and the public keys."""
