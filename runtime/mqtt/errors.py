"""What can go wrong with a broker, by the reaction it calls for, and the reason codes of MQTT 5 that say so."""

from runtime.errors import AuthError, PermanentError, TemporaryError

KEEP_ALIVE_TIMEOUT = 0x8D
AUTH_REASONS = {0x86, 0x87, 0x8A, 0x8C}  # bad user name or password, not authorized, banned, bad method
STRANGER_REASONS = {0x85, 0x87}  # this client id is not allowed, or not authorized


class BrokerUnreachableError(TemporaryError):
    """No connection to the broker, or it was lost."""


class BrokerAuthError(AuthError):
    """The broker refuses our name, password or certificate, or we refuse the broker's."""

    code = 0  # its reason code, where it gave one


class BrokerRefusedError(PermanentError):
    """The broker speaks with us and refuses what we ask, or would."""

    code = 0  # its reason code, where it gave one


def refusal(address: object, client_id: str, code: int, text: str) -> BrokerAuthError | BrokerRefusedError:
    """The error for a CONNACK with this reason code."""
    error: BrokerAuthError | BrokerRefusedError
    if code in AUTH_REASONS:
        error = BrokerAuthError(
            f"{address}: refused as {client_id}: {text}",
            hint="check broker.username and its password, or the certificate",
        )
    else:
        error = BrokerRefusedError(f"{address}: refused: {text}")
    error.code = code
    return error
