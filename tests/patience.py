"""How long a test waits for what must come, before it says that it did not.

Only a test that fails waits so long: under load, another program's start alone can take a minute.
"""

PATIENCE_S = 600
