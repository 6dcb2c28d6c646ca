"""json for machines."""
