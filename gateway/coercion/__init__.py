"""Coercion rules: what an admin writes in YAML, and how it reaches answers, query keys and instances.

Theory of operation. A rule is a selector and a list of actions, both frozen values (``rules``, ``conditions``,
``actions``). ``parser`` makes them from YAML once, and reports every mistake at once with its line. For one operation
on one study, ``engine.plan`` picks the rules whose AE titles and hosts fit, and folds all that does not depend on the
single instance into ready-made bytes; the plan is then applied to each instance or answer of that study.

Actions change a ``Draft``: a data set and what was changed on top of it, text always as Unicode. What comes out is a
:class:`~gateway.coercion.changes.Changes`, a few elements to be set or removed, never a whole data set. ``splice`` puts
those into the encoded head of a file: everything up to the last changed element is rebuilt in memory from slices of
the old bytes, and the rest, pixel data included, stays a range of the file that the wire sends as it is.
"""
