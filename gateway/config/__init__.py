"""The configuration: one YAML file becomes frozen typed values, once, at the edge.

The way of a configuration: :mod:`~gateway.config.document` reads the YAML into plain values and remembers the line
of every key; :mod:`~gateway.config.environment` lays ``GATEWAY__…`` variables over them; the models of
:mod:`~gateway.config.models` give every value its type and unit; :mod:`~gateway.config.checks` looks at what only
several keys together, or the disk, can tell. Whatever any of these finds is reported at once, each problem as
``file:line: path: problem (hint)``. ``gateway.daemon`` alone takes values out of it; no other room knows it.
"""

from gateway.config.loader import json_schema, load
from gateway.config.models import Config

__all__ = ["Config", "json_schema", "load"]
