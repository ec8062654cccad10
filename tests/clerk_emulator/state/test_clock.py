"""The virtual clock."""

from clerk_emulator.state.clock import Clock


class Wall:
    def __init__(self) -> None:
        self.time = 1_000

    def __call__(self) -> int:
        return self.time


def test_a_set_clock_runs_with_the_wall_clock() -> None:
    wall = Wall()
    clock = Clock(wall)
    clock.set(50_000)
    wall.time += 7
    assert clock.now() == 50_007
    assert clock.wall() == 1_007


def test_it_advances_by_units() -> None:
    clock = Clock(Wall())
    clock.advance(days=1, seconds=2)
    assert clock.now() == 1_000 + 86_400_000 + 2_000


def test_a_stopped_clock_stands_still_until_it_runs_again() -> None:
    wall = Wall()
    clock = Clock(wall)
    clock.stop()
    wall.time += 500
    assert clock.now() == 1_000
    clock.advance(5)
    clock.run()
    wall.time += 1
    assert clock.now() == 1_006


def test_the_clock_continues_after_a_restart() -> None:
    clock, later = Clock(Wall()), Clock(Wall())
    clock.advance(hours=3)
    later.load(clock.dump())
    assert later.now() == clock.now()
