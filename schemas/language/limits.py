"""What a schema may be at most. A file beyond one of these is refused with the limit in the message."""

FILE_BYTES_MAX = 1024 * 1024
NESTING_MAX = 32  # brackets of all kinds, one in another
DECLARATIONS_MAX = 10_000  # records, enums, types; functions and events of a platform too
MEMBERS_MAX = 1_000  # of one record, one signature, one enum
IMPORTS_MAX = 100  # files of one schema, those that imports import included
ERRORS_MAX = 100  # told of one file; the rest is counted
