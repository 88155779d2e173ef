"""The time of a network camera's frames: their own stamps, on this machine's clock.

A network delays frames unevenly; what the camera saw keeps its own pace. So steps are made of the
stamps. An offset brings them to the machine's clock, and follows arrival slowly. Stamps that are
no use are told from good ones; then arrival is taken, and :attr:`CameraTime.trouble` says so.

Pure: time comes in as numbers, in nanoseconds.
"""

from collections import Counter, deque
from statistics import median

from pipeline.clock import NS_PER_S

BUCKET_NS = 2 * NS_PER_S
BUCKETS = 300
RATE_BUCKETS = 10
RELEASE_BUCKETS = 5
FOLLOW_NS = 60 * NS_PER_S
SLEW = 0.01
"""While the offset is near, it moves by at most this share of the time that passes; flow is off by
no more."""
NEAR_BEHIND_NS = NS_PER_S * 3 // 2
NEAR_AHEAD_NS = NS_PER_S // 5
LEAP_NS = 2 * NS_PER_S
"""A stamp further on than this is believed only if frames were silent for about as long, or if its
frame doesn't seem to come before it was taken. A relay passes frames from before and after a cut on
together."""
SET_BACK_NS = NS_PER_S * 3 // 10
"""The first offset is a guess. If it is too late by more, it is put right at once."""
KEPT_NS = 30 * NS_PER_S
"""No server begins with frames that are older than this."""
AHEAD_NS = NS_PER_S
AHEAD_TOO_LONG_NS = 15 * NS_PER_S
"""No server begins with a minute of kept frames, which is what is read in this time."""
WRONG_RATE = 0.1
JUMPS, JUMPS_NS = 3, 60 * NS_PER_S
"""Stamps that run ahead of arrival this often within this time are fast."""
RECENT = 60
TOO_MANY = 0.2
STILL = 5
"""So many equal stamps in a row stand still; fewer are a frame that a relay sent twice."""
GOOD_AGAIN_NS = 10 * NS_PER_S
TELL_JUMP_NS = 10 * NS_PER_S
PATIENCE_NS = 3 * NS_PER_S
LAGS = 5
"""So many of the frames that were waited for tell how late such frames usually come."""
LUMP_NS = NS_PER_S * 5 // 2
"""Frames that lay ready for longer than this were held here, not by the network."""


class CameraTime:
    """Places each frame on the machine's monotonic clock.

    Times strictly increase, unless :attr:`jumped` says that one does not follow.
    """

    def __init__(self, late_ns: int | None = None) -> None:
        """``late_ns``: how long after its stamp the newest of the first frames came, if known.

        Servers and relays keep frames, so the first that comes can be seconds old.
        """
        self._first_late_ns = late_ns
        self._stamp_ns: int | None = None
        self._arrived_ns = 0
        self._now_ns: int | None = None
        self._period_ns = NS_PER_S // 25
        self._offset_ns = 0
        self._settled = False
        self._old_offset_ns: int | None = None
        self._repeats = 0
        self._waited_ns: int | None = None
        self._lags: deque[int] = deque([0], maxlen=LAGS)
        self._bridged_ready = False
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._rate = _Rate()
        self._trusted = True
        self._bad_ns = 0
        self._jump = ""
        self._jumped_ns = 0
        self.jumped = False
        """Whether the last frame's time does not follow from the one before it."""

    @property
    def trouble(self) -> str | None:
        """What is wrong with the stamps; None while they are good."""
        if not self._trusted:
            return f"its time stamps {self._complaint()}; times of arrival are used"
        return self._jump or None

    def place(
        self, stamp_ns: int | None, arrived_ns: int, *, waited: bool = True, silent_ns: int = 0
    ) -> int:
        """The time of a frame that the camera stamped ``stamp_ns``, None if it did not.

        ``waited``: the frame was waited for; otherwise it lay ready, and came at some time before
        ``arrived_ns``. ``silent_ns``: for how long nothing came before it, at least.
        """
        self.jumped = False
        fault = self._fault(stamp_ns, arrived_ns)
        late_ns = arrived_ns - (stamp_ns or 0)
        if stamp_ns is not None and waited:
            best_ns = self._best_ns(arrived_ns, silent_ns)
            if best_ns is None:
                best_ns = late_ns
            elif self._settled:
                # A reader that waits for the processor takes that for a silence. So lumps keep the
                # offset from rising; only frames that surely came so early lower it.
                best_ns = max(best_ns, min(late_ns, self._offset_ns))
            self._rate.add(arrived_ns, late_ns, best_ns)
        if self._now_ns is None:
            now_ns = self._begin(stamp_ns, late_ns)
        elif not self._trusted:
            now_ns = max(arrived_ns, self._now_ns + 1)
        elif fault or stamp_ns is None:
            now_ns = self._bridge(self._now_ns, stamp_ns, arrived_ns, waited)
        else:
            now_ns = self._followed(self._now_ns, stamp_ns)
        # A frame can't be taken after it arrives. Then the first frames were old when they came,
        # or the stamps are fast.
        ahead = now_ns - arrived_ns > AHEAD_NS
        self._rate.note_ahead(ahead, waited, arrived_ns, late_ns)
        if ahead and waited:
            now_ns, self._offset_ns, self.jumped = arrived_ns, late_ns, True
        if waited:
            now_ns = self._after_a_loss(now_ns, arrived_ns)
            self._waited_ns = arrived_ns
            self._lags.append(arrived_ns - now_ns)
        self._recent.append(fault)
        self._judge(fault, stamp_ns, arrived_ns, now_ns)
        if stamp_ns is not None:
            self._stamp_ns = stamp_ns
        self._arrived_ns, self._now_ns = arrived_ns, now_ns
        return now_ns

    @property
    def latest_ns(self) -> int | None:
        """How long after its stamp a frame arrives at the latest; None while that isn't known."""
        return self._rate.latest_ns

    def _fault(self, stamp_ns: int | None, arrived_ns: int) -> str:
        """What is wrong with a stamp; empty if nothing is."""
        if stamp_ns is None:
            return "are missing"
        if self._stamp_ns is None:
            return ""
        step_ns = stamp_ns - self._stamp_ns
        self._repeats = self._repeats + 1 if step_ns == 0 else 0
        if step_ns == 0:
            return "stand still" if self._repeats >= STILL else ""
        if step_ns < 0:
            return "go back"
        silent_ns = arrived_ns - self._arrived_ns
        far = step_ns > max(LEAP_NS, silent_ns * 3 // 2 + NS_PER_S)
        return "jump" if far and stamp_ns + self._offset_ns > arrived_ns + AHEAD_NS else ""

    def _begin(self, stamp_ns: int | None, late_ns: int) -> int:
        """The time of the first frame."""
        guess_ns = self._first_late_ns
        known = guess_ns is not None and 0 <= late_ns - guess_ns <= KEPT_NS
        self._offset_ns = guess_ns if guess_ns is not None and known else late_ns
        if stamp_ns is None and known:
            # Stamps count from the first; FFmpeg may give the frame before it none.
            return self._offset_ns - self._period_ns
        return self._offset_ns + (stamp_ns or 0)

    def _best_ns(self, arrived_ns: int, silent_ns: int) -> int | None:
        """How late the last frame of a lump came; None if no lump ended before this frame.

        Of a lump only the first frame is waited for, and it is the latest. The last came with it,
        and is as late as frames are without lumps.
        """
        if self._stamp_ns is None or self._waited_ns is None or silent_ns * 2 < self._period_ns * 3:
            return None
        if arrived_ns - self._waited_ns > LUMP_NS:
            return None
        return self._waited_ns - self._stamp_ns

    def _bridge(self, now_ns: int, stamp_ns: int | None, arrived_ns: int, waited: bool) -> int:
        """The time of a frame whose stamp does not follow from the one before it."""
        old_ns, silent_ns = self._old_offset_ns, arrived_ns - self._arrived_ns
        if stamp_ns is not None and old_ns is not None:
            # After a single wrong stamp the camera's time goes on where it was.
            back_ns = stamp_ns + old_ns
            if now_ns < back_ns <= now_ns + max(LEAP_NS, silent_ns):
                self._offset_ns, self._old_offset_ns = old_ns, None
                self._jump = ""
                return back_ns
        # In a burst frames arrive together: they are still a frame's time apart. One that is waited
        # for comes as late as the last such.
        bridged_ns = now_ns + self._period_ns
        # Part of a frame that was torn has no stamp. It comes with those from before the silence.
        if stamp_ns is not None and waited and silent_ns > self._period_ns // 4:
            bridged_ns = max(arrived_ns - min(self._lags), now_ns + self._period_ns // 4)
        if stamp_ns is not None and self._stamp_ns is not None and stamp_ns != self._stamp_ns:
            by_s = (stamp_ns - self._stamp_ns) / NS_PER_S
            self._jump = f"its time stamps jumped by {by_s:.1f} s; arrival bridged it"
            self._jumped_ns = arrived_ns
            self._old_offset_ns, self._offset_ns = self._offset_ns, bridged_ns - stamp_ns
            self._rate = _Rate()
            self._settled = False
            self._bridged_ready = not waited
        return bridged_ns

    def _after_a_loss(self, now_ns: int, arrived_ns: int) -> int:
        """Put right what was bridged amid a lump, at the next frame that is waited for.

        Frames may be missing there. Then this one seems to come much later than others do.
        """
        lost_ns = arrived_ns - now_ns - min(self._lags)
        if self._bridged_ready and lost_ns > NEAR_BEHIND_NS:
            self._offset_ns += lost_ns
            now_ns += lost_ns
        self._bridged_ready = False
        return now_ns

    def _followed(self, now_ns: int, stamp_ns: int) -> int:
        """The time of a good stamp. The offset moves a little towards the usual lateness."""
        step_ns = 0 if self._stamp_ns is None else stamp_ns - self._stamp_ns
        if self._rate.usual_ns is not None:
            error_ns = self._rate.usual_ns - self._offset_ns
            if not self._settled and error_ns < -SET_BACK_NS:
                self._offset_ns += error_ns
                now_ns = min(now_ns, stamp_ns + self._offset_ns - 1)
                self.jumped = True
            else:
                self._offset_ns += int(slew(error_ns) * step_ns)
            self._settled = True
        if 0 < step_ns < LEAP_NS:
            self._period_ns = step_ns
        return max(stamp_ns + self._offset_ns, now_ns + 1)

    def _judge(self, fault: str, stamp_ns: int | None, arrived_ns: int, now_ns: int) -> None:
        """Decide whether stamps are to be trusted from here on."""
        faults = sum(map(bool, self._recent))
        bad = self._rate.wrong or (faults >= 5 and faults > TOO_MANY * len(self._recent))
        if bad or fault:
            self._bad_ns = arrived_ns
        if self._trusted and bad:
            self._trusted, self._jump = False, ""
        elif not self._trusted and not bad and arrived_ns - self._bad_ns > GOOD_AGAIN_NS:
            assert stamp_ns is not None  # a missing stamp is a fault
            self._trusted, self._old_offset_ns = True, None
            self._offset_ns = now_ns - stamp_ns
            self._rate = _Rate()
        if self._jump and arrived_ns - self._jumped_ns > TELL_JUMP_NS:
            self._jump, self._old_offset_ns = "", None

    def _complaint(self) -> str:
        faults = Counter(fault for fault in self._recent if fault)
        if faults.total() > TOO_MANY * len(self._recent) or not self._rate.wrong:
            return faults.most_common(1)[0][0] if faults else "were bad a moment ago"
        return f"run at {self._rate.wrong:.2g} times the real pace"


def slew(error_ns: int) -> float:
    """How fast the offset moves, as a share of the time that passes.

    ``error_ns``: the usual lateness minus the offset. It is positive where frames are placed too
    early. A clock that is off by one in a thousand is followed closely. Stamps of the nominal
    frame rate can be off by some per cent: the offset gains speed with the square of its error, so
    it keeps a bounded distance. Less is allowed ahead, because nothing is taken after it arrives.
    """
    near_ns = NEAR_BEHIND_NS if error_ns > 0 else NEAR_AHEAD_NS
    near = min(abs(error_ns) / FOLLOW_NS, SLEW)
    share = max(near, min(SLEW * (error_ns / near_ns) ** 2, 1.5 * WRONG_RATE))
    return share if error_ns > 0 else -share


class _Rate:
    """How late frames arrive, by their stamps, and whether stamps keep real pace.

    A bucket holds the latest arrival of two seconds, and the latest of the best: how late frames
    come apart from lumps. The first is left out: servers begin with a burst of what they have kept.
    """

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int, int]] = deque(maxlen=BUCKETS)
        self._begun_ns: int | None = None
        self._first = True
        self._most_ns = self._best_ns = 0
        self._jumps: deque[tuple[int, int]] = deque(maxlen=JUMPS)
        self._ahead: tuple[int, int] | None = None
        self.usual_ns: int | None = None
        """The least of the last ten minutes' best: a network that is bad for a while makes frames
        later, but the camera's clock is what it was. Lateness that stays a second above that comes
        from slow stamps, or is here to stay."""
        self.latest_ns: int | None = None
        """The median of the last ten seconds' buckets: lumps lie in each, one hiccup in one."""
        self.wrong = 0.0
        """How fast stamps run, where arrival drifts away from them steadily; otherwise 0."""

    def add(self, arrived_ns: int, late_ns: int, best_ns: int) -> None:
        """Note a frame that was waited for. ``best_ns``: how late the one before came at best."""
        if self._begun_ns is None:
            self._begun_ns, self._most_ns, self._best_ns = arrived_ns, late_ns, best_ns
        elif arrived_ns - self._begun_ns < BUCKET_NS:
            self._most_ns = max(self._most_ns, late_ns)
            self._best_ns = max(self._best_ns, best_ns)
        else:
            if not self._first:
                self._buckets.append((self._begun_ns, self._most_ns, self._best_ns))
            self._first = False
            self._begun_ns, self._most_ns, self._best_ns = arrived_ns, late_ns, best_ns
            self._close()

    def note_ahead(self, ahead: bool, waited: bool, arrived_ns: int, late_ns: int) -> None:
        """Note whether a frame's time lies after its arrival, which fast stamps lead to.

        Frames that are held back until they are due can't show it by the buckets: they lie ready.
        """
        if not ahead:
            self._ahead = None
        elif waited:
            self._ahead = None
            self._jumps.append((arrived_ns, late_ns))
            first = self._jumps[0]
            if len(self._jumps) == JUMPS and arrived_ns - first[0] < JUMPS_NS:
                self._find_fast(first, (arrived_ns, late_ns))
        elif self._ahead is None:
            self._ahead = arrived_ns, late_ns
        elif arrived_ns - self._ahead[0] > AHEAD_TOO_LONG_NS:
            self._find_fast(self._ahead, (arrived_ns, late_ns))

    def _find_fast(self, first: tuple[int, int], last: tuple[int, int]) -> None:
        """Find stamps fast from two frames' (arrival, lateness), until buckets say more."""
        drift = (last[1] - first[1]) / max(1, last[0] - first[0])
        if drift < -WRONG_RATE:
            self.wrong = 1 - drift
            self._begun_ns, self._first = None, True
            self._buckets.clear()
            self._jumps.clear()
            self._ahead = None

    def _close(self) -> None:
        if self._buckets:
            most, best = zip(*((late, best) for _, late, best in self._buckets), strict=True)
            self.usual_ns = max(min(best), min(best[-RATE_BUCKETS:]) - NS_PER_S)
            self.latest_ns = round(median(most[-RELEASE_BUCKETS:]))
        recent = list(self._buckets)[-RATE_BUCKETS:]
        if len(recent) == RATE_BUCKETS:
            (begun_ns, _, begun), (_, _, middle) = recent[0], recent[RATE_BUCKETS // 2]
            ended_ns, _, ended = recent[-1]
            halves = middle - begun, ended - middle
            drift = sum(halves) / (ended_ns - begun_ns)
            steady = all(4 * part / sum(halves) > 1 for part in halves) if drift else False
            # Arrival moves away by ``drift`` a second: stamps pass 1 - drift in it.
            self.wrong = max(1 - drift, 0.01) if steady and abs(drift) > WRONG_RATE else 0.0


class Release:
    """When a frame is let go, so that a burst becomes a stream again.

    A relay or a live playlist passes data on in lumps. A frame that arrives more than
    :data:`SLACK_NS` before its time waits until then; frames that are late follow one another at
    up to four times their pace, so that no stage has to skip steps.
    """

    SLACK_NS = NS_PER_S * 15 // 100
    CATCH_UP = 4
    LONGEST_NS = NS_PER_S

    def __init__(self, hold_all: bool) -> None:
        """``hold_all``: the server sends well ahead of time (a live playlist)."""
        self._hold_all = hold_all
        self._late_ns: int | None = None
        self._stamp_ns = 0
        self._let_go_ns = 0
        self._waited_ns = 0
        self._catching_up = False

    def wait_ns(
        self, stamp_ns: int, now_ns: int, *, waited: bool, latest_ns: int | None = None
    ) -> int:
        """How long to hold the frame of ``stamp_ns`` that lies ready ``now_ns``.

        ``waited``: the network kept us waiting for it. ``latest_ns``: how long after their stamps
        frames arrive at the latest (:attr:`CameraTime.latest_ns`).
        """
        first = self._late_ns is None
        if first or (waited and self._catching_up):
            self._late_ns = now_ns - stamp_ns
        elif latest_ns is not None and not self._catching_up:
            self._late_ns = latest_ns
        assert self._late_ns is not None
        if waited or first:
            self._waited_ns, self._catching_up = now_ns, False
        elif not self._hold_all and now_ns - self._waited_ns > PATIENCE_NS:
            # Frames lie ready all the time: the server is ahead, or its stamps are slow.
            self._catching_up = True
        until_ns = now_ns if self._catching_up else stamp_ns + self._late_ns - self.SLACK_NS
        if not first:
            apart_ns = max(0, min(stamp_ns - self._stamp_ns, NS_PER_S))
            until_ns = max(until_ns, self._let_go_ns + apart_ns // self.CATCH_UP)
        hold_ns = max(0, min(until_ns - now_ns, self.LONGEST_NS))
        self._stamp_ns, self._let_go_ns = stamp_ns, now_ns + hold_ns
        return hold_ns
