"""Several coordinators on one PostgreSQL: all take rows, and one of them leads."""
