"""The leading archive as a source: C-FIND of Study Root over pooled associations, behind a circuit breaker.

- ``archive``: asks, checks and unifies what comes back. Only a final 0000H ends an answer; refusal, abort and silence
  are failures, counted by kind.
- ``lookup``: many studies in one question by a list of UIDs; finds out whether an archive understands lists, and asks
  one by one in parallel where it does not.
- ``pool``: associations are used again at once and released when they were not needed for some seconds.
- ``breaker``: a table; after several failures in a row every question fails at once, until a probe is answered.
- ``connecting``: the one module that touches :mod:`gateway.dimse`.

The cache is not here: it stands around an archive, in :mod:`gateway.query`.
"""
