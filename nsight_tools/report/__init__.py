"""What a run says: as text for a terminal, as JSON for machines, as Markdown for a pull request."""
