"""The main job on one screen: a leading archive, a gateway over a local file-set, and a viewer, on this machine.

The instances are real files of several modalities that pydicom ships. The leading archive is the gateway itself,
serving a second file-set whose patients were renamed, merged and given new accession numbers. Every line the demo
prints about an attribute was read from an answer on the wire or from a received file, and every check can fail.
"""
