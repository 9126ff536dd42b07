"""The protocol: AMQP 0-9-1 as a client speaks it. Knows bytes, frames and one socket."""
