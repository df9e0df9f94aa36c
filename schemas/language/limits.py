"""What a schema may be at most. A file beyond one of these is refused with the limit in the message."""

FILE_BYTES_MAX = 1024 * 1024
TOKENS_MAX = 100_000  # words and marks of one file
NAME_CHARS_MAX = 64
NESTING_MAX = (
    32  # brackets of all kinds, one in another; of a type also its [], and of a value on the wire its levels
)
ALIASES_MAX = 32  # names for names for names …
DECLARATIONS_MAX = 10_000  # records, enums, types; functions and events of a platform too
MEMBERS_MAX = 1_000  # of one record, one signature, one enum
IMPORTS_MAX = 100  # files of one schema, those that imports import included
ERRORS_MAX = 100  # told of one file; the rest is counted
SECONDS_MAX = 100 * 366 * 86_400  # of a length of time
