"""The server, seen from outside: how to get one, run one, and ask its Management API."""
