"""The clients that ``bench`` stands beside, each a program with a process of its own.

Holds: one program for each client (``pika_peer.py``, ``aio_pika_peer.py``, ``JavaPeer.java``),
what the Python ones share (``program.py``), and where a client is found and how its program is
started (``catalogue.py``).
Refuses to hold: what is compared and how often (``bench``), and anything of our own client.

All take the same flags::

    publish|consume --exchange X --routing-key K --queue Q --count N --window W --prefetch P
        --text T --run TWELVE_HEX_DIGITS [--url URL] [--deadline SECONDS]

(and pika ``--confirms``; Java ``--warm-up N`` and ``--ready FILE``, a file that it makes when it is
warm, to begin when it can read a byte) and print one line of JSON when they are done::

    {"messages": 50000, "unique": 50000, "seconds": 1.9, "cpu_seconds": 1.4}

Rules
-----
- Each is written as well as somebody who knows that client would write it, and does no more
  than it has to. Where there were two ways, the faster one was taken, with its measurement.
- The message is ours, byte for byte but for the checksum, which is constant here: the others
  need not compute what only our proof needs. (aio-pika adds a byte; it cannot leave out the
  priority.)
- ``seconds``: publishing, from just before the first publish to the last confirm (without
  confirms: until the broker answered the close of the channel); consuming, from basic.consume
  to the last ack. ``cpu_seconds``: the process's own user and system time in exactly that time.
- Every message id is recorded in a set before its message is acknowledged.
- The topology exists already. A message that is returned or refused ends the program.
- Without ``--url`` the address is taken from the environment variable ``RABBITMQ_URL``, so
  that no password has to stand in the list of processes.
- Exit code 0: done. 1: a sentence on standard error says what went wrong. 2: wrong usage.
  3: not done before the deadline.
"""
