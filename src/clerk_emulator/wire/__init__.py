"""JSON representations, request validation, keys and HTTP responses; fault injection, rate limits and request log."""
