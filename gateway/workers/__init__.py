"""Processes that share one port: forked before any thread exists, watched, replaced when one dies, counted together.

- ``supervisor``: the parent. It has no thread, no database and no HTTP: it forks, waits for signals, and forks again.
- ``board``: a page of shared memory with what every process has to know of the others, such as how many associations
  each serves.
- ``control``: a socket for each process, on which the others ask it things, such as its metrics or to flush a cache.
- ``totals``: one exposition out of several processes' metrics.

The listening socket is opened once, by the parent, and inherited. With SO_REUSEPORT each process has a queue of its
own, and what waits in it is reset when the process dies; here it is served by another. A process that serves more
associations than another lets that one accept first.
"""
