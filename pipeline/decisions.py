"""Decisions: what becomes of one camera's joined steps. Pure; the fusion stage and a replay use it.

A step moves the window on, the window is scored, the rules make changes of the scores, and a change
with all that explains it is a :class:`pipeline.messages.Transition`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.events import Change, EventRules, StepTime
from pipeline.messages import Feature, Moment, Stamp, StepScores, StreamScores, Transition
from pipeline.model_pack import Contract, Threshold
from pipeline.onnx_session import Float
from pipeline.windows import DecidedStep, FeatureWindow, Scored


def thresholds(
    contract: Contract, configured: Mapping[str, Threshold] | None = None
) -> dict[str, Threshold]:
    """The thresholds of every label: the configured one where there is one, else the pack's.

    Raises :class:`ConfigError` for a label that the pack doesn't have.
    """
    configured = configured or {}
    if strange := set(configured) - set(contract.labels):
        raise ConfigError(
            f"events.thresholds.{sorted(strange)[0]}: no such label; the pack has "
            f"{', '.join(contract.labels)}"
        )
    return {label: configured.get(label) or contract.threshold(label) for label in contract.labels}


class CameraDecisions:
    """The window, the rules and the newest step of one camera.

    ``media_timed``: durations are measured in media time, so that a file's are repeatable.
    """

    def __init__(
        self,
        name: str,
        contract: Contract,
        thresholds: Mapping[str, Threshold],
        update_every_s: float,
        media_timed: bool,
    ) -> None:
        self.name = name
        self.window = FeatureWindow(contract.window, contract.feature_size)
        self._labels = contract.labels
        self._rules = EventRules(
            contract.labels, contract.background, thresholds, update_every_s, contract.step_hz
        )
        self._media_timed = media_timed
        self._last: DecidedStep | None = None
        self._scored: Scored | None = None

    @property
    def active(self) -> bool:
        """Whether an event goes on."""
        return self._rules.active

    def advance(self, step: DecidedStep) -> list[Transition]:
        """Move on to a step; a new segment ends what goes on.

        Raises ValueError on a feature that isn't d finite numbers.
        """
        moment, ended = step.moment, []
        if self._last is not None and moment.segment != self.window.segment:
            ended = self.interrupt("gap")
        self._last = step
        self.window.push(
            moment.segment, moment.step_id, _vector(step.spatial), _vector(step.temporal)
        )
        return ended

    def judge(self, scored: Scored, took_ns: int, now_ns: int) -> list[Transition]:
        """What the scores of the newest step change."""
        assert self._last is not None
        self._scored = scored
        at = _step_time(self._last.moment, self._media_timed)
        changes = self._rules.push(at, scored.scores.tolist())
        return self._transitions(changes, took_ns, now_ns)

    def interrupt(self, reason: str, now_ns: int | None = None) -> list[Transition]:
        """End what goes on."""
        if self._last is None:
            return []
        at_ns = self._last.moment.captured_ns if now_ns is None else now_ns
        return self._transitions(self._rules.interrupt(reason), at_ns, at_ns)

    def forget(self) -> None:
        """Whatever the window holds, the next step empties it."""
        self.window.segment = -1

    def step_scores(self, took_ns: int, now_ns: int) -> StepScores:
        """All scores of the newest step."""
        step, scored = self._last, self._scored
        assert step is not None
        assert scored is not None
        return StepScores(
            camera=self.name,
            scores=self._named(scored.scores),
            window=self.window.info(),
            streams={
                "spatial": None if scored.spatial is None else self._named(scored.spatial),
                "temporal": None if scored.temporal is None else self._named(scored.temporal),
            },
            alpha=scored.alpha,
            captured_ns=step.moment.captured_ns,
            pts_ns=step.moment.pts_ns,
            trail=_trail(step, took_ns, now_ns),
        )

    def _named(self, scores: Float) -> dict[str, float]:
        return dict(zip(self._labels, scores.tolist(), strict=True))

    def _transitions(
        self, changes: Sequence[Change], took_ns: int, now_ns: int
    ) -> list[Transition]:
        step, scored = self._last, self._scored
        if step is None or scored is None:
            return []
        return [self._transition(change, step, scored, took_ns, now_ns) for change in changes]

    def _transition(
        self, change: Change, step: DecidedStep, scored: Scored, took_ns: int, now_ns: int
    ) -> Transition:
        index = self._labels.index(change.label)
        return Transition(
            key=f"{self.name}/{change.number}",
            type=change.type,
            camera=self.name,
            label=change.label,
            score=change.score,
            top_score=change.top_score,
            start_ns=change.start_ns,
            end_ns=change.end_ns,
            start_pts_ns=change.start_pts_ns,
            end_pts_ns=change.end_pts_ns,
            reason=change.reason,
            window=self.window.info(),
            streams=StreamScores(
                spatial=_at(scored.spatial, index),
                temporal=_at(scored.temporal, index),
                alpha=scored.alpha,
            ),
            captured_ns=step.moment.captured_ns,
            trail=_trail(step, took_ns, now_ns),
        )


def _trail(step: DecidedStep, took_ns: int, now_ns: int) -> tuple[Stamp, ...]:
    stamps = {
        stamp.stage: stamp
        for feature in (step.spatial, step.temporal)
        if feature is not None
        for stamp in feature.trail
    }
    return (*stamps.values(), Stamp("fusion", took_ns, now_ns))


def _vector(feature: Feature | None) -> npt.NDArray[np.float32] | None:
    if feature is None or feature.vector is None:
        return None
    return np.frombuffer(feature.vector, np.float32)


def _step_time(moment: Moment, media_timed: bool) -> StepTime:
    media_ns = moment.pts_ns if media_timed and moment.pts_ns is not None else moment.captured_ns
    return StepTime(moment.captured_ns, moment.pts_ns, media_ns)


def _at(scores: Float | None, index: int) -> float | None:
    return None if scores is None else float(scores[index])
