"""Retail analytics: customers, heat maps and shelves of stores."""
