"""Authentication and authorization: sessions, API keys, principals."""
