"""Instances on their way in: the rules for received objects, between the wire and whoever keeps the instance.

An instance that a rule may concern is written to a file of its own first, since what a rule says depends on its
attributes and may change its UIDs. When it has arrived whole, the changed head and the untouched rest go on to the next
receiver under the identity they have then. Without rules for received objects nothing of this happens.
"""
