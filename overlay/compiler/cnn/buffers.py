# SPDX-License-Identifier: Apache-2.0
"""Places in on-chip memories: taken in turn, round and round, and remembered until something else takes them.

What is loaded into a place that was in use waits for its last reader; the stream sees to that. So a buffer that holds
two tiles is a double buffer, and one that holds all of a layer's weights keeps them.
"""

from collections.abc import Collection, Hashable

from hetfab.overlay.errors import DesignTooSmallError


class Buffer:
    """The words of one memory.

    Args:
        memory: Its name, for errors.
        words: Its depth, of as much as instructions can name.
    """

    def __init__(self, memory: str, words: int) -> None:
        self.words = words
        self._memory = memory
        self._next = 0
        self._held: dict[Hashable, tuple[int, int]] = {}

    def find(self, key: Hashable) -> int | None:
        """Where something is, None where it is no longer."""
        return self._held[key][0] if key in self._held else None

    def begin(self, words: int) -> None:
        """Makes the next ``words`` words follow each other: begins again at the first one where they would not."""
        if self._next + words > self.words:
            self._next = 0

    def spares(self, words: int, layers: Collection[int]) -> bool:
        """Whether the next place of ``words`` words is of none of these layers, the first part of the keys."""
        first = self._place(words)
        return words <= self.words and not any(
            isinstance(key, tuple) and key[0] in layers and start < first + words and first < start + count
            for key, (start, count) in self._held.items()
        )

    def _place(self, words: int) -> int:
        return 0 if self._next + words > self.words else self._next

    def take(self, words: int, key: Hashable = None) -> int:
        """A place for ``words`` words; what was there is forgotten.

        Args:
            words: Length.
            key: Name of what is put there.

        Raises:
            DesignTooSmallError: The memory has fewer words.
        """
        if words > self.words:
            raise DesignTooSmallError(
                f"a layer needs {words} words of {self._memory}, which has {self.words}",
                f"{self._memory.replace('_ram', '_words')} of at least {words}",
                "use a design with a larger buffer",
            )
        first = self._place(words)
        self._next = first + words
        lost = [name for name, (start, count) in self._held.items() if start < first + words and first < start + count]
        for name in lost:
            del self._held[name]
        if key is not None:
            self._held[key] = first, words
        return first
