"""Many reports: one of each rank or host, analyzed side by side, and folded into one report.

`members` says which reports there are and what they are called, `tasks` turns one into a small value, `pool` and
`cluster` run the tasks here or on a Dask cluster, `fold` makes one report of what came back, `dataset` one dataset, and
`text`, `markdown` and `machine` show it. `remote` reads and writes what fsspec reaches.
"""
