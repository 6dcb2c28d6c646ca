"""Is this capture fit to conclude from?"""
