"""What a page has to be explored with: a timeline, tables of everything, and the policy that keeps names inert."""
