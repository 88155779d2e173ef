"""The pieces of a camera as they come in: twice, late, of one stream after another."""

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.evidence.feed import CameraFeed, size
from pipeline.transport.messages import Piece, PieceForm, Pieces


def pieces(numbers: range, opened_ns: int = 1, key_every: int = 10) -> Pieces:
    """One a tenth of a second."""
    return Pieces(
        camera="door",
        form=PieceForm(opened_ns, "h264", (48, 64), (1, 90_000), b""),
        pieces=tuple(
            Piece(n, n * NS_PER_S // 10, n, n, 1, n % key_every == 0, b"x" * 10) for n in numbers
        ),
    )


def numbers(feed: CameraFeed, first_s: float, last_s: float) -> list[list[int]]:
    runs = feed.between(int(first_s * NS_PER_S), int(last_s * NS_PER_S))
    return [[piece.number for piece in run] for _, run in runs]


def test_a_cut_begins_with_the_key_frame_before_it() -> None:
    feed = CameraFeed()
    feed.add(pieces(range(50)))
    assert numbers(feed, 1.5, 2.5) == [list(range(10, 26))]
    assert numbers(feed, 2.0, 2.0) == [[20]]


def test_without_one_before_it_the_first_key_frame_will_do() -> None:
    feed = CameraFeed()
    feed.add(pieces(range(13, 40)))
    assert numbers(feed, 1.5, 2.5) == [list(range(20, 26))]


def test_pieces_that_come_twice_or_late_stand_once_in_order() -> None:
    feed = CameraFeed()
    feed.add(pieces(range(20, 30)))
    feed.add(pieces(range(10, 25)))
    assert numbers(feed, 1, 3) == [list(range(10, 30))]
    assert feed.bytes == 200 == size(feed.between(0, 10 * NS_PER_S))


def test_streams_stay_apart() -> None:
    feed = CameraFeed()
    feed.add(pieces(range(20)))
    feed.add(pieces(range(20, 40), opened_ns=2))
    assert numbers(feed, 0, 4) == [list(range(20)), list(range(20, 40))]


def test_what_nobody_wants_goes_but_for_the_key_frame_that_is_needed() -> None:
    feed = CameraFeed()
    feed.add(pieces(range(50)))
    feed.forget(int(2.5 * NS_PER_S))
    assert numbers(feed, 2.5, 3) == [list(range(20, 31))]
    assert feed.bytes == 300
    feed.forget(None)
    assert numbers(feed, 0, 10) == []
    assert (feed.bytes, feed.newest) == (0, -1)


def test_it_knows_since_when_it_has_all() -> None:
    """New pieces may come before the older ones that were asked for."""
    feed = CameraFeed()
    feed.add(pieces(range(40, 50)))
    assert feed.since_ns > 5 * NS_PER_S
    feed.add(msgspec.structs.replace(pieces(range(10, 40)), since_ns=NS_PER_S))
    assert feed.since_ns == NS_PER_S
    feed.add(pieces(range(50, 60)))
    feed.forget(2 * NS_PER_S)
    assert feed.since_ns == 2 * NS_PER_S
    feed.forget(None)
    feed.add(pieces(range(60, 70)))
    assert feed.since_ns > 7 * NS_PER_S


def test_a_frame_that_others_refer_to_is_not_cut_off() -> None:
    """Packets come in the order of decoding: a later picture before those that refer to it."""
    feed = CameraFeed()
    form = PieceForm(1, "h264", (48, 64), (1, 90_000), b"")
    shown = [0, 4, 2, 1, 3]
    feed.add(
        Pieces(
            camera="door", form=form,
            pieces=tuple(
                Piece(n, at * NS_PER_S, at, n, 1, n == 0, b"x") for n, at in enumerate(shown)
            ),
        )
    )  # fmt: skip
    assert numbers(feed, 0, 3) == [[0, 1, 2, 3, 4]]
