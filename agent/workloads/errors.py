"""What can go wrong with a workload, by the reaction.

TemporaryError
└── NotNowError          something outside of it is missing (an image, the engine): tried again for ever
PermanentError
└── WorkloadError        it is at fault itself: by the restart policy, as if it had ended so
"""

from runtime.errors import PermanentError, TemporaryError


class NotNowError(TemporaryError):
    """It cannot be begun now, for a reason outside of it."""


class WorkloadError(PermanentError):
    """It cannot be begun as it is."""
