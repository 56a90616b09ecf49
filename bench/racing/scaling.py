"""How aggregate speed grows with members and width, beside what the machine's arithmetic allows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.ticker import FuncFormatter, NullLocator

from reporting.figures.style import FAINT, WIDTH, looks, new_axes, png, styled

from .arithmetic import limit_at_shapes, products
from .race import race
from .ratios import per_second, undisturbed
from .work import Work

WIDTHS = (64, 256, 1024)
MEMBERS = {"cpu": (1, 2, 4, 8, 16, 32, 64), "cuda": (1, 8, 64, 256, 1024)}
BATCH, EPOCHS = 64, 10
OBSERVATIONS, ACTIONS = 4, 2
"""Of CartPole, whose own steps cost little."""


@dataclass(frozen=True)
class Point:
    """One population.

    Attributes:
        width: of both hidden layers.
        members: in the population.
        wall: environment steps a second, of all members.
        undisturbed: the same had other programs never taken the processor away.
        limit: such steps a second, were there only matrix products at the machine's best rate.
        limit_at_shapes: the same with each product at the rate of its own shape.
    """

    width: int
    members: int
    wall: float
    undisturbed: float
    limit: float
    limit_at_shapes: float

    @property
    def share(self) -> float:
        """How much of the arithmetic limit is reached."""
        return self.undisturbed / self.limit

    @property
    def share_at_shapes(self) -> float:
        """How much is reached of what these shapes allow."""
        return self.undisturbed / self.limit_at_shapes


def measure(widths: Sequence[int], members: Sequence[int], best: float, seconds: float, device: str) -> Iterator[Point]:
    """PPO on CartPole, one thread, rollouts of a single minibatch, so that the largest populations take seconds.

    Args:
        widths: of both hidden layers.
        members: in each population.
        best: the rate of the best matrix product, in floating point operations a second.
        seconds: that each population is timed for, at least.
        device: as in torch.
    """
    for width in widths:
        asked = products(OBSERVATIONS, ACTIONS, (width, width), EPOCHS)
        for number in members:
            settings = {"n_steps": BATCH, "batch_size": BATCH, "n_epochs": EPOCHS}
            work = Work(
                trainer="population",
                algorithm="PPO",
                env="CartPole-v1",
                hidden=(width, width),
                seeds=tuple(range(number)),
                warm_up=BATCH,
                seconds=seconds,
                settings=settings,
                threads=1,
                device=device,
            )
            laps = race([work])
            yield Point(
                width=width,
                members=number,
                wall=per_second(laps),
                undisturbed=undisturbed(laps),
                limit=best / sum(asked.values()),
                limit_at_shapes=limit_at_shapes(number, BATCH, width, asked, device),
            )


def as_json(points: Iterable[Point]) -> list[dict[str, float]]:
    """Points as plain data, rounded."""
    return [{name: float(f"{value:.4g}") for name, value in asdict(point).items()} for point in points]


def draw(points: Iterable[Point], path: Path) -> None:
    """Aggregate speed against members, a line for each width.

    Dashed what the best matrix product allows, dotted what products of these shapes do.
    """
    by_width: dict[int, list[Point]] = {}
    for point in points:
        by_width.setdefault(point.width, []).append(point)
    styles = looks(f"{width} wide" for width in by_width)
    with styled():
        figure, axes = new_axes(WIDTH, 4.2)
        for (label, look), own in zip(styles.items(), by_width.values(), strict=True):
            members = [point.members for point in own]
            axes.plot(members, [point.undisturbed for point in own], color=look.color, marker=look.marker, label=label)
            axes.plot(members, [point.limit for point in own], color=look.color, linestyle="--", linewidth=0.8)
            axes.plot(members, [point.limit_at_shapes for point in own], color=look.color, linestyle=":", linewidth=1)
        axes.plot([], [], color=FAINT, linestyle="--", linewidth=0.8, label="arithmetic limit, best product")
        axes.plot([], [], color=FAINT, linestyle=":", linewidth=1, label="the same at these shapes")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("members")
        axes.set_title("environment steps a second of all members together, one thread", loc="left")
        figure.legend(loc="outside lower center", ncols=5, fontsize=7)
        path.write_bytes(png(figure, dpi=150))
