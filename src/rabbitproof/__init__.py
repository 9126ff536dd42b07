"""Send, receive, watch, break, and prove that RabbitMQ lost nothing.

ARCHITECTURE.md is the map of this package. Nothing happens at import.
"""

__version__ = "0.1.0"
