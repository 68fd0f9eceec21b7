"""The composition root: the only rooms that know the configuration and every other room.

``chain`` builds the way of a request in reading order; ``coercing`` puts the rules around it; ``peers`` turns the
configured peers into whom we call, who may call us and where they may have instances sent; ``running`` starts the
parts, waits for a signal and stops them.
"""
