"""Which variant of a model a node gets: decided alike at both sides, in schemas/choosing.py."""

from schemas.choosing import Choice as Choice
from schemas.choosing import Verdict as Verdict
from schemas.choosing import choose as choose
from schemas.choosing import who_can as who_can
