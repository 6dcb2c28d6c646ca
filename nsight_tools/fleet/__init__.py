"""Many reports: one of each rank or host, analyzed side by side, and folded into one report.

`assembly` puts a fleet together: `members` says which reports there are and what they are called, `tasks` turns one
into a small value, one of `results`, `pool` and `cluster` run the tasks here or on a Dask cluster, `fold` makes one
report of what came back, `dataset` one dataset. `formats` show it. `remote` reads and writes what fsspec reaches.
"""
