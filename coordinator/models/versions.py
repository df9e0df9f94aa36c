"""Versions of models, as both sides read them: schemas/versions.py."""

from schemas.versions import Version as Version
from schemas.versions import VersionError as VersionError
from schemas.versions import parse_reference as parse_reference
from schemas.versions import parse_version as parse_version
