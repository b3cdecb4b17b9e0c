"""The memory engine, held up: for what happens while a job is carried out."""

import asyncio
import threading

from onecut.clock import Clock
from onecut.engine.memory import MemoryEngine
from onecut.engine.port import NO_LIMITS, Limits, Source


class HeldUpEngine(MemoryEngine):
    """Makes no volume until it may."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.may = threading.Event()

    async def create_volume(
        self, volume_id: str, size_bytes: int, *, source: Source | None = None, limits: Limits = NO_LIMITS
    ) -> None:
        """See `Engine.create_volume`."""
        await asyncio.to_thread(self.may.wait)
        await super().create_volume(volume_id, size_bytes, source=source, limits=limits)
