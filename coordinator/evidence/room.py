"""Whether there is room for another file: quotas, the spool, the disk. Pure."""

from collections.abc import Mapping

from coordinator.evidence.settings import EvidenceTable
from coordinator.evidence.spool import Partial
from schemas.blobs import Reason, Refused

PARTS_OF_A_NODE_MAX = 8  # files a node may have begun; of more the one not touched for longest is begun anew later
RETRY_QUOTA_S = 3600.0
RETRY_ROOM_S = 60.0

Key = tuple[str, str]
Parts = Mapping[Key, Partial]


class Room:
    """What is kept, by node, and what the limits leave."""

    def __init__(self, table: EvidenceTable) -> None:
        self._table = table
        self.kept: dict[str, int] = {}  # bytes by node

    def taken(self, node: str, size: int) -> None:
        self.kept[node] = self.kept.get(node, 0) + size

    def given_up(self, node: str, size: int) -> None:
        self.kept[node] = max(0, self.kept.get(node, 0) - size)

    def to_forget(self, parts: Parts, node: str, size: int, now_utc_ms: int) -> list[Key]:
        """Begun files that give way to another one: too old ones, and of a node that begins too many the oldest."""
        limit_ms = self._table.spool_age_max_s * 1000
        old = [key for key, part in parts.items() if now_utc_ms - part.touched_utc_ms > limit_ms]
        own = sorted((part.touched_utc_ms, key) for key, part in parts.items() if key[0] == node and key not in old)
        return old + [key for _, key in own[: max(0, len(own) + 1 - PARTS_OF_A_NODE_MAX)]]

    def excess(self, parts: Parts, node: str, size: int) -> list[tuple[str, int]]:
        """By how many bytes the file is too much: (node, bytes) for its own quota, ("", bytes) for the common one."""
        found = []
        arriving = {key: part.offer.size for key, part in parts.items()}
        own = sum(length for key, length in arriving.items() if key[0] == node)
        over_own = self.kept.get(node, 0) + own + size - self._table.quota_node_bytes
        over_all = sum(self.kept.values()) + sum(arriving.values()) + size - self._table.quota_bytes
        if self._table.quota_node_bytes and over_own > 0:
            found.append((node, over_own))
        if self._table.quota_bytes and over_all > 0:
            found.append(("", over_all))
        return found

    def refusal(self, parts: Parts, node: str, size: int, *, free_bytes: int, spooled_bytes: int) -> Refused | None:
        """Why a file of `size` is not taken now; None when there is room."""
        table = self._table
        if size > table.blob_bytes_max:
            return Refused(Reason.TOO_LARGE, f"{size} bytes; at most {table.blob_bytes_max} are taken")
        if excess := self.excess(parts, node, size):
            of, over = excess[0]
            quota = table.quota_node_bytes if of else table.quota_bytes
            whose = f"of node {of}" if of else "of all nodes"
            return Refused(Reason.QUOTA, f"{over} bytes beyond the quota {whose}, {quota}", RETRY_QUOTA_S)
        spool = sum(part.offer.size for part in parts.values()) + spooled_bytes
        if spool + size > table.spool_bytes_max:
            return Refused(Reason.NO_ROOM, f"{spool} bytes are in the spool already", RETRY_ROOM_S)
        to_come = sum(part.offer.size - sum(b - a for a, b in part.spans) for part in parts.values())
        if free_bytes - to_come - size < table.free_bytes_min:
            return Refused(Reason.NO_ROOM, f"the disk has {free_bytes} bytes left", RETRY_ROOM_S)
        return None
