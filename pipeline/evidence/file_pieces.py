"""The pieces of a file, for a lossless run: it can be read again, so nothing has to be kept."""

from pipeline.arrays import picture_size
from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.errors import SourceError
from pipeline.evidence.clip import NoClip
from pipeline.evidence.feed import Run, as_form, as_piece, cut
from pipeline.sources import SourceOptions, create
from pipeline.sources.packet_roll import PacketRoll
from pipeline.sources.video_file import VideoFile
from pipeline.transport.messages import Piece, PieceForm

_BEYOND_NS = NS_PER_S


def pieces_of_file(source: str, camera: str, first_ns: int, last_ns: int) -> list[Run]:
    """The pieces of a file or folder from the key frame before ``first_ns`` to ``last_ns``.

    Times are media time. Raises :class:`NoClip` where it can't be read any more.
    """
    roll = PacketRoll(seconds=1e6, max_bytes=1 << 40)
    options = SourceOptions(realtime=False, roll=roll)
    reader = create(source, camera=camera, clock=SYSTEM_CLOCK, options=options)
    pictures: list[Piece] = []
    form = PieceForm(0, "", (0, 0), (1, NS_PER_S), b"")
    try:
        if isinstance(reader, VideoFile):
            reader.open(max(0, first_ns))
        else:
            reader.open()
        offset_ns = 0
        while (grab := reader.grab()) is not None and (grab.pts_ns or 0) <= last_ns + _BEYOND_NS:
            time_ns = grab.pts_ns or 0
            if roll.form is not None:
                # What is to be added to a stamp for media time.
                offset_ns = time_ns - (grab.captured_ns - (roll.offset_ns or grab.captured_ns))
                continue
            if first_ns <= time_ns <= last_ns:
                frame = reader.retrieve()
                codec = "yuv420p" if frame.shape[2] == 1 else "bgr24"
                form = PieceForm(0, codec, picture_size(frame.shape), (1, NS_PER_S), b"")
                data = frame.tobytes()
                pictures.append(
                    Piece(len(pictures), time_ns, time_ns, time_ns, 0, True, data)
                )  # fmt: skip
    except SourceError as error:
        raise NoClip(str(error)) from None
    finally:
        reader.close()
    if roll.form is None:
        return [(form, pictures)] if pictures else []
    packets = [as_piece(kept, (kept.stamp_ns or 0) + offset_ns) for kept in roll.after(-1)]
    wanted = cut(packets, first_ns, last_ns)
    return [(as_form(roll.form), wanted)] if wanted else []
