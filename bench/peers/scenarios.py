"""What is measured, as read from axes.toml."""
import dataclasses
import pathlib
import tomllib

from peer import Setting

FILE = pathlib.Path(__file__).with_name("axes.toml")


@dataclasses.dataclass(frozen=True)
class Point:
    """One place on an axis."""

    size: int
    sessions: int
    per_connection: int
    domains: int
    connections: int
    mode: str
    pipelining: bool
    seconds: float
    rounds: int
    rate: float = 0
    idle: int = 0
    depth: int = 0
    fill_seconds_max: float = 0
    # In place of as many as `seconds` take.
    messages: int = 0

    def setting(self, hold):
        sessions = self.sessions + self.idle
        return Setting(sessions=sessions, connections=self.connections, hold=hold, mode=self.mode)


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    kind: str
    what: str
    quick: bool
    # The axis: key, how it is called, and (value, point) for each place on it. Without one: key None, one point.
    axis: str | None
    label: str
    points: list


def read(changes):
    """All scenarios by name; `changes` override what the file says (shorter runs)."""
    text = tomllib.loads(FILE.read_text())
    base = text.pop("base")
    return {name: _scenario(name, base, dict(table), changes) for name, table in text.items()}


def _scenario(name, base, table, changes):
    kind, what, quick = table.pop("kind"), table.pop("what"), table.pop("quick", False)
    axis, label, values = table.pop("axis", None), table.pop("label", ""), table.pop("values", [None])
    points = []
    for value in values:
        own = {axis: value} if axis else {}
        points.append((value, Point(**{**base, **table, **own, **changes})))
    return Scenario(name, kind, what, quick, axis, label, points)
