"""What the drill has seen: one record for each kill, and what is wrong with the tasks in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.drill.points import Mission


@dataclass
class Kill:
    """One kill.

    Attributes:
        at: by the clock of the drill, seconds.
        proof: what shows that it fell at the named point; empty when nothing does.
        then: what became of the task: a new attempt, the same one, a person had to be asked.
        seconds: until the task was claimed again, or the killed service answered again.
        measured: whether `seconds` are told; the queue's pause after a second failure is not waited for.
        disturbed: a service that the restart needs was killed meanwhile.

    """

    mission: Mission
    task: int
    way: str
    at: float
    proof: str = ""
    then: str = "the attempt went on"
    seconds: float | None = None
    disturbed: bool = False
    measured: bool = True
    base: int = 0


@dataclass
class Book:
    """All kills, and the missions that could not be made."""

    kills: list[Kill] = field(default_factory=list[Kill])
    missed: list[Mission] = field(default_factory=list[Mission])
    tasks: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    """Task id to the drill's own number and kind."""
    stuck: int = 0
    answered: dict[str, int] = field(default_factory=dict[str, int])
    services_down: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def answer(self, decision: str) -> None:
        """Count what a person said."""
        self.answered[decision] = self.answered.get(decision, 0) + 1

    def disturbed(self, since: float, until: float, *, but: int | None = None) -> bool:
        """Whether a service was away, or had just been, in this time; `but` for the one of this place."""
        return any(
            place != but and began <= until and ended + 5.0 >= since
            for place, (began, ended) in enumerate(self.services_down)
        )
