"""The words of the standard as values: attributes, identifiers, information models, matching, statuses.

Everything here is pure. No module of this package opens a socket or a file, starts a thread, asks the clock
or counts a metric, so each rule of the standard can be tested by calling a function.
"""
