"""The table of what stages count: its name in heartbeats, as a metric, and what it means.

A metric's labels are out of these: ``stage`` (its kind), ``camera``, ``pack`` (its name),
``label``, ``type`` of an event's record, ``reason`` of what a rule holds back, ``network``
(``PACK/STREAM`` of the first pack that has it), and ``worker``, a flow process's number. Every
value of each is known when the program starts, so every series exists from then on, and there are
never more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from pipeline.decision.rule_filter import REASONS
from pipeline.model.watch import network_names
from pipeline.topology import StageSpec, Watched, all_watches
from pipeline.transport.counters import key
from pipeline.transport.messages import EvidenceKind, EvidenceState
from pipeline.transport.topics import STAGES

PREFIX = "two_stream_"
PROCESS = ("stage", "camera", "worker")
"""The labels of what belongs to one process. ``camera`` is empty where it serves several."""
RECORD_TYPES = ("start", "update", "end")

EVIDENCE_KINDS, EVIDENCE_STATES = get_args(EvidenceKind), get_args(EvidenceState)
_STEP_STAGES = ("flow", "spatial", "temporal")


@dataclass(frozen=True, slots=True)
class Measure:
    """A counter or gauge of some kinds of stage."""

    name: str
    """In heartbeats."""
    metric: str
    help: str
    stages: Sequence[str]
    labels: tuple[str, ...] = ()
    kind: Literal["counter", "gauge"] = "counter"
    scale: float = 1.0

    def entries(self, spec: StageSpec, known: "Known") -> Iterator[tuple[tuple[str, ...], str]]:
        """The label values of each of a stage's series, and the name of its count in heartbeats.

        Capture serves one camera and so does not name it.
        """
        if self.labels == PROCESS:
            yield process_labels(spec), self.name
            return
        axes = known.axes(spec)
        counted = [label for label in self.labels if label != "stage"]
        for values in product(*(axes[label] for label in self.labels)):
            at = dict(zip(self.labels, values, strict=True))
            if not known.happens(at):
                continue
            bare = spec.kind == "capture"
            yield values, self.name if bare else key(self.name, *(at[label] for label in counted))


@dataclass(frozen=True)
class Known:
    """The values of the labels: what a run's packs can count."""

    actions: Mapping[str, Mapping[str, Sequence[str]]]
    """Labels of actions by camera and pack."""
    networks: Mapping[str, Sequence[str]]
    """By kind of stage."""

    @classmethod
    def of(cls, watched: Watched) -> "Known":
        watches = all_watches(watched)
        return cls(
            {
                camera: {w.pack.contract.name: w.pack.contract.actions for w in each}
                for camera, each in watched.items()
            },
            {
                "spatial": list(network_names("spatial", watches).values()),
                "temporal": list(network_names("temporal", watches).values()),
            },
        )

    def axes(self, spec: StageSpec) -> dict[str, Sequence[str]]:
        """The values of each label at a stage, whether or not they happen together."""
        packs = [pack for each in self.actions.values() for pack in each.items()]
        return {
            "stage": (spec.kind,),
            "camera": spec.cameras,
            "pack": list(dict.fromkeys(name for name, _ in packs)),
            "label": list(dict.fromkeys(label for _, labels in packs for label in labels)),
            "type": RECORD_TYPES,
            "reason": REASONS,
            "kind": EVIDENCE_KINDS,
            "state": EVIDENCE_STATES,
            "network": self.networks.get(spec.kind, ()),
        }

    def happens(self, at: Mapping[str, str]) -> bool:
        """Whether the camera has the pack, and the pack the label."""
        if "pack" not in at:
            return True
        labels = self.actions[at["camera"]].get(at["pack"])
        return labels is not None and ("label" not in at or at["label"] in labels)


@dataclass(frozen=True, slots=True)
class Histogram:
    """A timing of one kind of stage (:class:`pipeline.transport.counters.Timing`)."""

    name: str
    metric: str
    help: str
    stage: str
    label: Literal["stage", "camera"]


def process_labels(spec: StageSpec) -> tuple[str, str, str]:
    """The values of :data:`PROCESS`."""
    camera = spec.instance if spec.kind == "capture" else ""
    worker = spec.instance if spec.kind == "flow" else ""
    return spec.kind, camera, worker


_OF_CAMERA = ("camera",)
_OF_STEP = ("stage", "camera")

MEASURES = (
    Measure(
        "frames", "frames_total",
        "Frames taken from a camera. Its rate is the camera's frame rate.",
        ("capture",), _OF_CAMERA,
    ),
    Measure(
        "source_failures", "source_failures_total",
        "Times that a camera could not be opened, or was lost.",
        ("capture",), _OF_CAMERA,
    ),
    Measure(
        "steps", "steps_total",
        "Steps of a camera that a stage has processed.",
        ("capture", "spatial", "temporal", "fusion"), _OF_STEP,
    ),
    Measure(
        "fields", "flow_fields_total",
        "Flow fields computed between two steps of a camera.",
        ("flow",), _OF_CAMERA,
    ),
    Measure(
        "batches", "batches_total",
        "Batches that a stage worked on. Steps over batches is the mean number of cameras.",
        ("spatial", "temporal"), ("stage",),
    ),
    Measure(
        "looks", "people_looks_total",
        "Times that the person detector looked at a camera's picture.",
        ("people",), _OF_CAMERA,
    ),
    Measure(
        "people", "people",
        "People who are in the picture now.",
        ("people",), _OF_CAMERA, "gauge",
    ),
    Measure(
        "inferences", "inferences_total",
        "Times that a network was run: on a step, or on each of its subjects. Packs that share a "
        "network share its inferences.",
        ("spatial", "temporal"), ("stage", "network"),
    ),
    Measure(
        "steps_skipped", "steps_skipped_total",
        "Steps that a stage skipped because newer ones waited: the machine is too slow.",
        ("people", *_STEP_STAGES), _OF_STEP,
    ),
    Measure(
        "frames_overwritten", "frames_overwritten_total",
        "Frames that were overwritten before a stage had read them: the machine is too slow.",
        ("people", "flow", "spatial"), _OF_STEP,
    ),
    Measure(
        "fields_overwritten", "flow_fields_overwritten_total",
        "Flow fields that were overwritten before temporal had read them.",
        ("temporal",), _OF_CAMERA,
    ),
    Measure(
        "steps_one_stream", "steps_one_stream_total",
        "Steps decided without appearance or without motion.",
        ("fusion",), _OF_CAMERA,
    ),
    Measure(
        "quarantines", "quarantines_total",
        "Times that a stage failed on a camera's data and skipped the camera for a while.",
        ("people", *_STEP_STAGES, "fusion"), _OF_STEP,
    ),
    Measure(
        "events", "events_total",
        "Events that began, stored in the event log.",
        ("publish",), ("camera", "pack", "label"),
    ),
    Measure(
        "filtered", "filtered_total",
        "Events that a rule of the config held back, by what it asks for.",
        ("fusion",), ("camera", "label", "reason"),
    ),
    Measure(
        "event_records", "event_records_total",
        "Records stored and published: an event has a start, updates and an end.",
        ("publish",), ("type",),
    ),
    Measure(
        "remembered_steps", "remembered_steps_total",
        "Steps whose features were kept.",
        ("memory",), ("camera",),
    ),
    Measure(
        "remembered_steps_lost", "remembered_steps_lost_total",
        "Steps whose features could not be written.",
        ("memory",), ("camera",),
    ),
    Measure(
        "remembered_written", "remembered_written_bytes_total",
        "Bytes of features that were written.",
        ("memory",), ("camera",),
    ),
    Measure(
        "remembered_bytes", "remembered_bytes",
        "Bytes of features that are kept.",
        ("memory",), ("camera",), "gauge",
    ),
    Measure(
        "evidence", "evidence_total",
        "Clips and pictures that were made, couldn't be, or were deleted for their age.",
        ("evidence",), ("kind", "state"),
    ),
    Measure(
        "evidence_actions_refused", "evidence_actions_refused_total",
        "Actions without evidence, because too many went on at once.",
        ("evidence",),
    ),
    Measure(
        "events_lost", "events_lost_total",
        "Events lost because the event log could not be written for too long.",
        ("fusion",),
    ),
    Measure(
        "events_forgotten", "event_records_deleted_total",
        "Records deleted from the event log by events.keep_days or events.keep_mb.",
        ("publish",),
    ),
    Measure(
        "log_failures", "event_log_failures_total",
        "Times that the event log could not be written; what failed is tried again.",
        ("publish",),
    ),
    Measure(
        "requests_refused", "requests_refused_total",
        "Requests on the replay socket that made no sense.",
        ("publish",),
    ),
    Measure(
        "clients_refused", "clients_refused_total",
        "Clients turned away for lack of a known key.",
        ("publish",),
    ),
    Measure(
        "messages_refused", "messages_refused_total",
        "Internal messages that a stage could not read.",
        STAGES, ("stage",),
    ),
    Measure(
        "messages_dropped", "messages_dropped_total",
        "Internal messages that a stage dropped because the queue of their reader was full.",
        STAGES, ("stage",),
    ),
    Measure(
        "cpu_seconds", "stage_cpu_seconds_total",
        "CPU time that a stage has used, user and system.",
        STAGES, PROCESS,
    ),
    Measure(
        "rss_bytes", "stage_resident_memory_bytes",
        "Memory that a stage holds, with the shared memory that it has touched.",
        STAGES, PROCESS, "gauge",
    ),
    Measure(
        "private_bytes", "stage_private_memory_bytes",
        "Memory that a stage holds by itself; supervisor.memory_mb limits it.",
        STAGES, PROCESS, "gauge",
    ),
    Measure(
        "open_files", "stage_open_fds",
        "File descriptors that a stage holds.",
        STAGES, PROCESS, "gauge",
    ),
    Measure(
        "late_ms", "latency_smoothed_seconds",
        "Recent mean time from a frame's grab to its scores, which the governor goes by.",
        ("fusion",), (), "gauge", 0.001,
    ),
)  # fmt: skip

HISTOGRAMS = (
    Histogram(
        "step_time", "step_duration_seconds",
        "Time from when a stage took a step until it passed the step on.",
        "fusion", "stage",
    ),
    Histogram(
        "score_latency", "score_latency_seconds",
        "Time from the grab of a frame to its scores.",
        "fusion", "camera",
    ),
    Histogram(
        "event_latency", "event_latency_seconds",
        "Time from the grab of the frame that began an event until the event was published.",
        "publish", "camera",
    ),
)  # fmt: skip

UNSHOWN = frozenset({"steps_timed", "people_named"})
"""Counters that only the supervisor reads."""
