"""A schema compiled to the rules that a host keeps: one line, so that every host keeps the same."""

from platforms.hosting import Rules
from schemas.language.schema import Schema
from schemas.language.validators import InvalidError, Validators, into, plain


def rules_of(schema: Schema) -> Rules:
    """What `served_functions` needs, of a schema."""
    return Rules(Validators(schema), into, plain, InvalidError)
