"""The wire: the only importer of pynetdicom; negotiation, the data loop, SCPs and SCUs."""
