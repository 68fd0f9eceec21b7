"""``python -m gateway``: the same command as ``dicom-gateway``."""

from gateway.cli import main

main()
