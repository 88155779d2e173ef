"""The time of a camera's frames: stamps that are good, late, in bursts, wrong, or missing."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.sources.camera_time import CameraTime, Release

FRAME_NS = NS_PER_S // 30
START_NS = 1_000 * NS_PER_S

Arrival = tuple[int, int]
"""(stamp, arrival), nanoseconds since the start."""


def steady(seconds: float, stamp: int = 0) -> Iterator[Arrival]:
    for index in range(round(seconds * 30)):
        yield stamp + index * FRAME_NS, index * FRAME_NS


def in_bursts(seconds: float, every_s: float) -> Iterator[Arrival]:
    """A relay passes data on every ``every_s`` only."""
    every_ns = round(every_s * NS_PER_S)
    for stamp, arrived in steady(seconds):
        yield stamp, -(-arrived // every_ns) * every_ns


class Line:
    """Places arrivals one after the other, as a reader does that waits for each."""

    def __init__(self) -> None:
        self.time = CameraTime()
        self.placed: list[int] = []
        self.troubles: list[str] = []

    def run(self, arrivals: Iterable[tuple[int | None, int]], at_ns: int = 0) -> "Line":
        last_ns = -1
        for stamp, arrived in arrivals:
            waited = arrived > last_ns  # what arrives together lies ready
            placed = self.time.place(stamp, START_NS + at_ns + arrived, waited=waited)
            self.placed.append(placed - START_NS)
            if self.time.trouble and self.time.trouble not in self.troubles[-1:]:
                self.troubles.append(self.time.trouble)
            last_ns = arrived
        return self

    def periods(self) -> list[float]:
        return [(b - a) / FRAME_NS for a, b in itertools.pairwise(self.placed)]


@given(
    st.lists(st.none() | st.integers(-(10**13), 10**13), min_size=2),
    st.lists(st.integers(0, 10**10), min_size=2),
)
def test_times_strictly_increase_whatever_the_stamps(
    stamps: list[int | None], waits: list[int]
) -> None:
    time, now = CameraTime(), 0
    before = -1
    for stamp, wait in zip(stamps, waits, strict=False):
        now += wait
        placed = time.place(stamp, now)
        assert placed > before or time.jumped
        before = placed


def test_good_stamps_keep_their_pace_through_jitter() -> None:
    late_ns = itertools.cycle([0, 40, 3, 90, 15, 2])
    line = Line().run((s, a + next(late_ns) * NS_PER_MS) for s, a in steady(60))
    assert all(0.98 < period < 1.02 for period in line.periods())
    assert not line.troubles


@pytest.mark.parametrize("every_s", [0.3, 0.5, 1.0, 2.0])
def test_a_relay_that_passes_data_on_in_bursts_changes_no_distance(every_s: float) -> None:
    line = Line().run(in_bursts(60, every_s))
    assert all(0.98 < period < 1.02 for period in line.periods())
    assert not line.troubles


@pytest.mark.parametrize("wrong_s", [3600.0, -3600.0, 30.0, -5.0])
def test_a_single_wrong_stamp_moves_nothing(wrong_s: float) -> None:
    arrivals = list(steady(20))
    arrivals[300] = (arrivals[300][1] + round(wrong_s * NS_PER_S), arrivals[300][1])
    line = Line().run(arrivals)
    assert all(0.9 < period < 1.1 for period in line.periods())
    assert abs(line.placed[-1] - arrivals[-1][1]) < FRAME_NS


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, -0.5, 100.0])
def test_a_clock_that_is_set_is_told_and_bridged(jump_s: float) -> None:
    line = (
        Line()
        .run(steady(20))
        .run(steady(30, stamp=round((20 + jump_s) * NS_PER_S)), at_ns=20 * NS_PER_S)
    )
    assert all(0.9 < period < 1.1 for period in line.periods())
    assert any(f"jumped by {jump_s:.1f} s" in text for text in line.troubles)
    assert line.time.trouble is None  # it is over


@pytest.mark.parametrize(
    ("stamps", "says"),
    [
        ((None for _ in itertools.count()), "are missing"),
        ((0 for _ in itertools.count()), "stand still"),
        ((-i * FRAME_NS for i in itertools.count()), "go back"),
        ((i * 10 * NS_PER_S for i in itertools.count()), "jump"),
        ((2 * i * FRAME_NS for i in itertools.count()), "run at 2 times"),
        ((i * FRAME_NS // 2 for i in itertools.count()), "run at 0.5 times"),
    ],
    ids=["missing", "still", "back", "leaps", "fast", "slow"],
)
def test_a_clock_that_is_no_use_is_told_and_arrival_is_taken(
    stamps: Iterator[int | None], says: str
) -> None:
    line = Line().run((next(stamps), arrived) for _, arrived in steady(40))
    assert line.time.trouble is not None
    assert says in line.time.trouble
    assert line.periods()[-1] == pytest.approx(1, abs=0.01)
    assert abs(line.placed[-1] - 40 * NS_PER_S + FRAME_NS) < FRAME_NS


@pytest.mark.parametrize("rate", [1.2, 1.5, 2.0, 3.0, 5.0, 10.0])
def test_fast_stamps_are_found_though_their_frames_are_held(rate: float) -> None:
    """Frames that seem early wait for their time, so they lie ready when they are read."""
    time, release = CameraTime(), Release(hold_all=False)
    now, begun = START_NS, None
    for _, arrived in steady(60):
        stamp, waited = round(arrived * rate), START_NS + arrived > now
        now = max(now, START_NS + arrived)
        time.place(stamp, now, waited=waited)
        if time.trouble is None:
            now += release.wait_ns(stamp, now, waited=waited, latest_ns=time.latest_ns)
        elif begun is None:
            begun = now - START_NS
    assert begun is not None
    assert begun < 35 * NS_PER_S
    assert f"run at {rate:.2g} times" in (time.trouble or "")
    assert now - START_NS - arrived < 0.1 * NS_PER_S  # nothing was left behind


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.91, 0.96, 0.999, 1.001, 1.04, 1.09])
def test_stamps_of_the_nominal_rate_are_followed(rate: float) -> None:
    """A camera that sends 24 frames a second and stamps 25."""
    line = Line().run((round(stamp * rate), arrived) for stamp, arrived in steady(1200))
    assert not line.troubles
    apart = [line.placed[i] - i * FRAME_NS for i in range(18_000, 36_000)]
    assert max(apart) < 0.95 * NS_PER_S  # never more than a second ahead, which is a jump
    assert min(apart) > -8 * NS_PER_S
    assert max(apart) - min(apart) < 0.5 * NS_PER_S


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_network_that_gets_worse_and_better_moves_time_little(seed: int) -> None:
    rng = random.Random(seed)
    arrivals, every_ns, until, last = [], 0, 0, 0
    for stamp, _ in steady(1800):
        if stamp >= until:
            every_ns = round(rng.choice((0, 0.2, 0.3, 0.5, 0.5, 1.0)) * NS_PER_S)
            until = stamp + rng.randrange(10, 40) * NS_PER_S
        last = max(last, -(-stamp // every_ns) * every_ns if every_ns else stamp)
        arrivals.append((stamp, last))
    placed = let_go(arrivals)
    late = [time - START_NS - stamp for (time, _), (stamp, _) in zip(placed, arrivals, strict=True)]
    settled = sorted(late[len(late) // 3 :])
    assert settled[-1] - settled[0] < 0.3 * NS_PER_S
    assert settled[len(settled) * 9 // 10] - settled[len(settled) // 10] < 0.2 * NS_PER_S


def test_stamps_that_become_good_are_trusted_again() -> None:
    still = ((0, arrived) for _, arrived in steady(10))
    line = Line().run(still)
    assert line.time.trouble is not None
    line.run(steady(30), at_ns=10 * NS_PER_S)
    assert line.time.trouble is None
    assert all(0.9 < period < 1.1 for period in line.periods()[-100:])


def test_a_burst_of_kept_frames_at_the_start_is_no_wrong_clock() -> None:
    """Many servers begin with what they have kept since the last key frame."""
    burst = ((index * FRAME_NS, 0) for index in range(150))
    line = Line().run(burst).run(
        ((150 + i) * FRAME_NS, i * FRAME_NS + 1) for i in range(1800)
    )  # fmt: skip
    assert not line.troubles
    # Once, when the reader has caught up, the time of the frames is put right.
    assert sum(not 0.98 < period < 1.02 for period in line.periods()) <= 1


def test_after_a_silence_time_goes_on_by_the_stamps() -> None:
    line = (
        Line()
        .run(steady(10))
        .run(
            ((stamp + 40 * NS_PER_S, arrived) for stamp, arrived in steady(10)), at_ns=40 * NS_PER_S
        )
    )
    assert not line.troubles
    assert max(line.placed[i + 1] - line.placed[i] for i in range(599)) > 29 * NS_PER_S


def test_drift_is_followed_slowly() -> None:
    """A camera whose crystal is off by one in a thousand."""
    line = Line().run((stamp * 1001 // 1000, arrived) for stamp, arrived in steady(600))
    assert not line.troubles
    assert abs(line.placed[-1] - 600 * NS_PER_S) < 100 * NS_PER_MS


def let_go(
    arrivals: Iterable[tuple[int | None, int]],
    *,
    hold_all: bool = False,
    time: CameraTime | None = None,
) -> list[tuple[int, int]]:
    """(time, moment of release) of each frame, by a reader that takes one after the other."""
    time, release = time or CameraTime(), Release(hold_all)
    now = START_NS
    out = []
    for stamp, arrived in arrivals:
        silent = max(0, START_NS + arrived - now)
        now += silent
        placed = time.place(stamp, now, waited=silent > 0, silent_ns=silent)
        if time.trouble is None and stamp is not None:
            now += release.wait_ns(stamp, now, waited=silent > 0, latest_ns=time.latest_ns)
        out.append((placed, now))
    return out


BASE_NS = 20 * NS_PER_MS
"""How late frames come without lumps."""


def behind_a_relay(
    seconds: float,
    lumps: Callable[[float], float],
    cuts: Sequence[tuple[float, float]] = (),
    base_ns: Callable[[float], int] = lambda _: BASE_NS,
) -> list[Arrival]:
    """Frames that a relay passes on in lumps, and doesn't while its line is cut.

    ``lumps`` returns how many seconds of frames come together at some second. What is held back
    when a cut begins comes with the first frames after it; what is sent meanwhile is lost.
    """
    arrivals: list[Arrival] = []
    last = 0
    for stamp, _ in steady(seconds):
        at = stamp / NS_PER_S
        if any(begun <= at < end for begun, end in cuts):
            continue
        every_ns = round(lumps(at) * NS_PER_S)
        arrived = stamp + base_ns(at)
        for _ in range(1 + len(cuts)):
            arrived = -(-arrived // every_ns) * every_ns if every_ns else arrived
            for begun, end in cuts:
                if at < begun <= arrived / NS_PER_S < end:
                    arrived = round(end * NS_PER_S) + BASE_NS
        last = max(last, arrived)
        arrivals.append((stamp, last))
    return arrivals


def errors(arrivals: Sequence[Arrival], time: CameraTime) -> list[float]:
    """How many seconds later each frame is placed than it was taken."""
    placed = let_go(arrivals, time=time)
    pairs = zip(placed, arrivals, strict=True)
    return [(at - START_NS - stamp) / NS_PER_S for (at, _), (stamp, _) in pairs]


@pytest.mark.parametrize("every_s", [0.3, 0.5, 1.0, 2.0])
def test_lumps_make_no_time_late(every_s: float) -> None:
    time = CameraTime(START_NS + BASE_NS)
    late = errors(behind_a_relay(90, lambda _: every_s), time)
    assert max(map(abs, late)) < 0.1


CUTS = {
    "short": [(20.3, 21.5)],
    "long": [(20.3, 24.9)],
    "two in five seconds": [(20.3, 22.0), (23.1, 24.6)],
    "amid the lump after a cut": [(20.3, 22.6), (22.75, 25.2)],
}


@pytest.mark.parametrize("every_s", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_a_cut_amid_lumps_moves_no_time(cuts: list[tuple[float, float]], every_s: float) -> None:
    time = CameraTime(START_NS + BASE_NS)
    arrivals = behind_a_relay(60, lambda _: every_s, cuts)
    assert max(map(abs, errors(arrivals, time))) < 0.1
    assert time.trouble is None


def test_a_relay_that_comes_back_with_another_delay_moves_no_time() -> None:
    slower = behind_a_relay(
        90,
        lambda _: 0.5,
        [(20.3, 24.0)],
        lambda at: BASE_NS if at < 24 else BASE_NS + NS_PER_S // 2,
    )
    assert max(map(abs, errors(slower, CameraTime(START_NS + BASE_NS)))) < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_times_are_right_through_minutes_of_lumps_and_cuts(seed: int) -> None:
    rng = random.Random(seed)
    cuts, spells, at = [], [], 0.0
    while at < 400:
        spells.append((at, rng.choice((0.0, 0.2, 0.3, 0.5, 0.5, 1.0))))
        at += rng.uniform(10, 40)
        if rng.random() < 0.4:
            cuts.append((at, at + rng.uniform(1, 8)))
            at = cuts[-1][1]
    lumps = [next(e for begun, e in reversed(spells) if begun <= second) for second in range(400)]
    arrivals = behind_a_relay(400, lambda at: lumps[int(at)], cuts)
    assert max(map(abs, errors(arrivals, CameraTime(START_NS + BASE_NS)))) < 0.15


@pytest.mark.parametrize("seed", range(3))
def test_a_reader_that_is_short_of_time_places_nothing_early(seed: int) -> None:
    """It waits for the processor, and can't tell that from a silence of the line."""
    rng = random.Random(seed)
    lumps = [rng.choice((0.0, 0.2, 0.3, 0.5, 1.0)) for _ in range(12)]
    time, release, now = CameraTime(START_NS + BASE_NS), Release(hold_all=False), START_NS
    early = 0.0
    for stamp, arrived in behind_a_relay(240, lambda at: lumps[int(at // 20)]):
        silent = max(0, START_NS + arrived - now)
        halt = rng.randrange(NS_PER_S // 10) if rng.random() < 0.05 else 0
        now += silent + halt
        silent += halt
        waited = silent > 8 * NS_PER_MS
        placed = time.place(stamp, now, waited=waited, silent_ns=silent)
        now += release.wait_ns(stamp, now, waited=waited, latest_ns=time.latest_ns)
        early = min(early, (placed - START_NS - stamp) / NS_PER_S)
    assert early > -0.1


@pytest.mark.parametrize("again_s", [0.0, 7200.0], ids=["go back", "leap"])
@pytest.mark.parametrize("every_s", [0.0, 0.5])
@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
def test_stamps_that_begin_again_after_a_cut_lose_no_time(
    every_s: float, again_s: float, torn: bool
) -> None:
    """A relay connects to its camera again, and keeps its connection to us.

    Of a frame that was torn by the cut the rest has no stamp.
    """
    arrivals = behind_a_relay(60, lambda _: every_s, [(20.3, 23.3)])
    shift_ns = round((again_s - 23.3) * NS_PER_S)
    stamps = [stamp + shift_ns if stamp > 22 * NS_PER_S else stamp for stamp, _ in arrivals]
    changed: list[tuple[int | None, int]] = [
        (stamp, arrived) for stamp, (_, arrived) in zip(stamps, arrivals, strict=True)
    ]
    if torn:
        first = next(i for i, (_, arrived) in enumerate(arrivals) if arrived > 23 * NS_PER_S)
        changed.insert(first, (None, arrivals[first][1]))
    placed = let_go(changed, time=CameraTime(START_NS + BASE_NS))
    if torn:
        placed.pop(first)
    # That some frames are missing shows when the lump is over that they are missing in.
    late = [
        at - START_NS - stamp
        for (at, _), (stamp, _) in zip(placed, arrivals, strict=True)
        if not 23 < stamp / NS_PER_S < 23.3 + every_s
    ]
    assert max(map(abs, late)) < (0.1 + every_s) * NS_PER_S


@pytest.mark.parametrize("every_s", [0.5, 1.0, 2.0])
def test_a_start_amid_a_lump_is_put_right_within_seconds(every_s: float) -> None:
    """Nothing is known of how late the first frame is."""
    arrivals = behind_a_relay(30, lambda _: every_s)
    late = errors(arrivals, CameraTime())
    assert max(map(abs, late[8 * 30 :])) < 0.15
    # Times go back once, and by no more than the first was late.
    assert sum(b < a - 0.1 for a, b in itertools.pairwise(late)) <= 1


def test_a_frame_without_a_stamp_hides_no_clock_that_is_set() -> None:
    arrivals: list[tuple[int | None, int]] = list(steady(20))
    arrivals.append((None, 20 * NS_PER_S))
    later = [(stamp - 3600 * NS_PER_S, arrived + 20 * NS_PER_S) for stamp, arrived in steady(20)]
    line = Line().run([*arrivals, *later])
    assert any("jumped by" in text for text in line.troubles)
    assert abs(line.placed[-1] - later[-1][1]) < 2 * FRAME_NS


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_frames_that_come_twice_are_no_fault(share: float) -> None:
    rng = random.Random(1)
    twice = [pair for pair in steady(60) for _ in range(1 + (rng.random() < share))]
    line = Line().run(twice)
    assert not line.troubles
    apart = [at - stamp for at, (stamp, _) in zip(line.placed, twice, strict=True)]
    assert max(map(abs, apart)) < NS_PER_MS


def test_frames_that_were_kept_are_as_old_as_they_are() -> None:
    """A server begins with five seconds that it has kept."""
    kept = [(index * FRAME_NS, 0) for index in range(150)]
    live = [((150 + i) * FRAME_NS, i * FRAME_NS) for i in range(900)]
    placed = let_go([*kept, *live], time=CameraTime(START_NS - 150 * FRAME_NS))
    late = [at - START_NS - stamp + 150 * FRAME_NS
            for (at, _), (stamp, _) in zip(placed, [*kept, *live], strict=True)]  # fmt: skip
    assert max(map(abs, late)) < 0.1 * NS_PER_S


@pytest.mark.parametrize("off_s", [-3600, 1, 3600])
def test_a_guess_of_the_lateness_that_cannot_be_is_left_out(off_s: int) -> None:
    time = CameraTime(START_NS + off_s * NS_PER_S)
    assert time.place(0, START_NS) == START_NS


def test_a_first_frame_without_a_stamp_comes_before_the_next() -> None:
    time = CameraTime(START_NS)
    first = time.place(None, START_NS + NS_PER_S)
    assert time.place(0, START_NS + NS_PER_S, waited=False) == START_NS
    assert 0 < START_NS - first < NS_PER_S // 10


def test_good_frames_are_not_held() -> None:
    jitter = itertools.cycle([0, 30, 5, 60, 10])
    arrivals = [(s, a + next(jitter) * NS_PER_MS) for s, a in steady(30)]
    released = [now - START_NS for _, now in let_go(arrivals)]
    held = [now - arrived for now, (_, arrived) in zip(released, arrivals, strict=True)]
    assert max(held) < 30 * NS_PER_MS


@pytest.mark.parametrize("every_s", [0.3, 0.5, 1.0, 2.0])
def test_a_burst_becomes_a_stream_again(every_s: float) -> None:
    released = [now for _, now in let_go(in_bursts(60, every_s))]
    apart = [b - a for a, b in itertools.pairwise(released)]
    assert min(apart) >= FRAME_NS // Release.CATCH_UP - 1
    # Never more than a third of a second without a frame once it has settled.
    assert max(apart[len(apart) // 2 :]) < 0.34 * NS_PER_S


def test_a_live_playlist_plays_at_its_own_pace() -> None:
    """Three segments of six seconds lie ready at the start; then one comes every six seconds."""
    arrivals = [(stamp, max(0, -(-(stamp - 18 * NS_PER_S) // (6 * NS_PER_S)) * 6 * NS_PER_S))
                for stamp, _ in steady(120)]  # fmt: skip
    released = [now for _, now in let_go(arrivals, hold_all=True)]
    apart = [b - a for a, b in itertools.pairwise(released)]
    assert max(apart) < 0.2 * NS_PER_S
    assert abs(released[-1] - released[0] - arrivals[-1][0]) < NS_PER_S


def test_a_server_that_is_ahead_is_caught_up_with() -> None:
    """A camera's server begins with ten seconds that it has kept: they must not stay a delay."""
    kept = [(index * FRAME_NS, 0) for index in range(300)]
    live = [((300 + i) * FRAME_NS, i * FRAME_NS) for i in range(900)]
    released = let_go([*kept, *live])
    delay_ns = released[-1][1] - START_NS - live[-1][1]
    assert delay_ns < 0.2 * NS_PER_S
