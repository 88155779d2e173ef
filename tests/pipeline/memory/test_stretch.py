"""Steps as bytes and back: all but the last bits of the features."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import FeatureMemoryError
from pipeline.memory.stretch import decoded, encoded, networks
from pipeline.steps.join import DecidedStep
from pipeline.transport.messages import Feature, Person
from testbed.samples import moment

A, B = "9c", "3f-aa"


def vector(step: int, size: int = 16) -> bytes:
    return np.random.default_rng(step).normal(size=size).astype(np.float32).tobytes()


def feature(
    step: int, stream: Literal["spatial", "temporal"], vectors: dict[str, bytes | None]
) -> Feature:
    regions = {"person": {"p1": (0.1, 0.2, 0.3, 0.9)}} if step % 2 else {}
    return Feature(
        moment=moment(step),
        stream=stream,
        vectors=vectors,
        regions=regions,
        trail=(),
    )


def steps(count: int) -> list[DecidedStep]:
    """Steps with all that may be missing of them."""
    found = []
    for number in range(1, count + 1):
        spatial = feature(number, "spatial", {A: vector(number), f"{A}/p1": None})
        temporal = feature(number, "temporal", {} if number % 3 else {B: vector(-number % 97)})
        people = (Person("p1", (0.1, 0.2, 0.3, 0.9), 0.5),) if number % 2 else None
        found.append(
            DecidedStep(moment(number), None if number % 5 == 0 else spatial, temporal, people)
        )
    return found


def test_all_comes_back() -> None:
    given_, back = steps(40), decoded(encoded(steps(40)))
    assert networks(given_) == {A, B}
    for one, other in zip(given_, back, strict=True):
        assert (one.moment, one.people) == (other.moment, other.people)
        for before, after in ((one.spatial, other.spatial), (one.temporal, other.temporal)):
            if before is None:
                assert after is None
                continue
            assert after is not None
            assert after.regions == before.regions
            assert after.vectors.keys() == before.vectors.keys()
            for key, data in before.vectors.items():
                if data is None:
                    assert after.vectors[key] is None
                    continue
                found = after.vectors[key]
                assert found is not None
                np.testing.assert_allclose(
                    np.frombuffer(found, np.float32), np.frombuffer(data, np.float32), rtol=1e-3
                )


def test_a_value_too_large_for_half_a_float_stays_finite() -> None:
    huge = np.array([1e9, -1e9, 1.0], np.float32).tobytes()
    step = DecidedStep(moment(1), feature(2, "spatial", {A: huge}), None)
    back = decoded(encoded([step]))[0].spatial
    assert back is not None
    data = back.vectors[A]
    assert data is not None
    assert np.isfinite(np.frombuffer(data, np.float32)).all()


@given(st.binary(max_size=400))
def test_other_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(FeatureMemoryError):
        decoded(data)


def test_bytes_that_were_cut_off_or_changed_are_an_error() -> None:
    whole = encoded(steps(20))
    for place in range(0, len(whole), 37):
        with pytest.raises(FeatureMemoryError):
            decoded(whole[:place])
        changed = bytearray(whole)
        changed[place] ^= 0x55
        # The checksum of zlib finds what msgpack doesn't.
        with pytest.raises(FeatureMemoryError):
            decoded(bytes(changed))
