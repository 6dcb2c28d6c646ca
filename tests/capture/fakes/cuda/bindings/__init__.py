__version__ = "12.9.4"
