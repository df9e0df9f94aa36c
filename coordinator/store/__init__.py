"""What the coordinator keeps. `store.py` is what ingest asks of it, `sql.py` the store over any database; `sqlite.py`
and `postgres.py` bring the databases, `place.py` opens the one that is meant, `reader.py` is for whoever only looks.
"""
