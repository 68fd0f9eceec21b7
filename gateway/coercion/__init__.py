"""Coercion rules: what an admin writes in YAML, and how it reaches answers, query keys and instances.

Theory of operation. A rule is a selector and a list of actions, both frozen values. For one operation on one study,
``engine.plan`` picks the rules whose AE titles and hosts fit, and folds all that does not depend on the single instance
into ready-made bytes; the plan is then applied to each instance or answer of that study.

Actions change a ``Draft``: a data set and what was changed on top of it, text always as Unicode. What comes out is a
:class:`~gateway.coercion.changes.Changes`, a few elements to be set or removed, never a whole data set. ``splice`` puts
those into the encoded head of a file: everything up to the last changed element is rebuilt in memory from slices of
the old bytes, and the rest, pixel data included, stays a range of the file that the wire sends as it is.

The language:

- ``rules``, ``conditions``, ``actions``, ``sources``, ``identity``, ``charsets`` are its values, on ``paths`` and
  ``formats``; ``values`` knows what an attribute may have; ``nested`` changes inside sequences;
- ``parser`` with ``parse_conditions``, ``parse_actions`` and ``parse_shared`` makes them from YAML (``yamlnodes``), and
  reports every mistake at once with its line; ``printer`` turns them back, ``schema`` describes them to editors;
- ``lint``, ``explain``, ``cases``, ``given``, ``folders`` and ``dcm4chee`` (on ``ldif``) are the admin's tools;
- ``reload`` keeps the rules in force and reads them again when their file changes.

The bytes:

- ``heads`` finds where elements begin and end; ``layouts`` recognises heads met before; ``convert`` writes text in
  another character set, puts elements in order and knows big endian;
- ``patch`` is a change made ready for many files, ``splice`` applies it to one, ``rewrite`` makes a file of that;
- ``original`` records what was changed; ``undo`` gives the asker of coerced query keys the own ones back.
"""
