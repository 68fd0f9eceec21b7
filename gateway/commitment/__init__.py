"""Storage commitment (PS3.4 Annex J), as SCP and SCU."""
