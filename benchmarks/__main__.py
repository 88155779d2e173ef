"""``python -m benchmarks NAME [--json]``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Picture = Annotated[Path | None, typer.Option(help="PNG of the figures")]


@app.callback()
def main() -> None:
    """What is measured, and against what."""


@app.command()
def flow(json_output: Json = False) -> None:
    """Optical flow: end-point error on the Middlebury pairs, milliseconds on one core."""
    from benchmarks.flow import flow as measure

    measure(json_output)


@app.command()
def ring(
    seconds: Annotated[float, typer.Option(min=1)] = 120.0,
    reads: Annotated[int, typer.Option(min=1)] = 10_000_000,
    json_output: Json = False,
) -> None:
    """The ring under stress: one writer, four readers, every read checksummed."""
    from benchmarks.ring import ring as measure

    measure(seconds, reads, json_output)


@app.command()
def demo(
    seeds: Annotated[list[int], typer.Option("--seed", help="may be given several times")] = [0],  # noqa: B006
    seconds: Annotated[float, typer.Option(min=1)] = 120.0,
    model: Annotated[Path | None, typer.Option(help="model pack folder")] = None,
    json_output: Json = False,
) -> None:
    """The demo camera, live, scored against its own script."""
    from benchmarks.demo import demo as measure

    measure(seeds, seconds, model, json_output)


@app.command()
def chaos(
    kills: Annotated[int, typer.Option(min=4, help="of stages and of the whole program")] = 500,
    seed: int = 0,
    json_output: Json = False,
) -> None:
    """Processes killed and stopped, cameras that fail, at random moments: what it cost."""
    from benchmarks.chaos import chaos as measure

    measure(kills, seed, json_output)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=1)] = 120.0,
    seed: int = 0,
    model: Annotated[
        Path | None, typer.Option(help="model pack folder; else a tiny one, made by hand")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of memory and files over time")] = None,
    json_output: Json = False,
) -> None:
    """Four RTSP cameras for hours, and something always going wrong."""
    from benchmarks.soak import soak as measure

    measure(minutes, seed, model, picture, json_output)


@app.command()
def fuzz(
    inputs: Annotated[int, typer.Option(min=1000, help="of the decoders")] = 1_000_000,
    minutes: Annotated[float, typer.Option(min=0.05, help="of the live sockets")] = 10.0,
    seed: int = 0,
    json_output: Json = False,
) -> None:
    """Garbage against the decoders and against every socket of a running program."""
    from benchmarks.fuzz import fuzz as measure

    measure(inputs, minutes, seed, json_output)


GESTURES = Path(__file__).parent.parent / "models" / "gestures"


@app.command()
def floor(
    model: Annotated[Path, typer.Option(help="model pack folder")] = GESTURES,
    json_output: Json = False,
) -> None:
    """What a camera-second costs at least: the bare work, in one thread."""
    from benchmarks.floor import floor as measure

    measure(model, json_output)


@app.command()
def overhead(
    cameras: Annotated[int, typer.Option(min=1)] = 4,
    seconds: Annotated[float, typer.Option(min=5)] = 60.0,
    model: Annotated[Path, typer.Option(help="model pack folder")] = GESTURES,
    picture: Picture = None,
    json_output: Json = False,
) -> None:
    """What the pipeline takes for a camera-second over that, by stage."""
    from benchmarks.floor import overhead as measure

    measure(model, cameras, seconds, picture, json_output)


@app.command()
def profile(
    cameras: Annotated[int, typer.Option(min=1)] = 4,
    seconds: Annotated[float, typer.Option(min=2)] = 20.0,
    model: Annotated[Path, typer.Option(help="model pack folder")] = GESTURES,
    picture: Picture = None,
    json_output: Json = False,
) -> None:
    """Where its CPU time goes, by stage and by whose code runs (perf)."""
    from benchmarks.profile import profile as measure

    measure(model, cameras, seconds, picture, json_output)


@app.command()
def latency(
    cameras: Annotated[list[int], typer.Option(help="may be given several times")] = [1, 2, 4, 8],  # noqa: B006
    seconds: Annotated[float, typer.Option(min=5)] = 60.0,
    model: Annotated[Path, typer.Option(help="model pack folder")] = GESTURES,
    picture: Picture = None,
    json_output: Json = False,
) -> None:
    """From the grab of a frame to the event in a subscriber's hands."""
    from benchmarks.latency import latency as measure

    measure(model, cameras, seconds, picture, json_output)


@app.command()
def density(
    first: Annotated[int, typer.Option(min=1, help="cameras to begin with")] = 4,
    seconds: Annotated[float, typer.Option(min=5, help="that the last number must hold")] = 120.0,
    model: Annotated[Path, typer.Option(help="model pack folder")] = GESTURES,
    picture: Picture = None,
    json_output: Json = False,
) -> None:
    """How many RTSP cameras this machine carries."""
    from benchmarks.density import density as measure

    measure(model, first, seconds, picture, json_output)


@app.command()
def peers(
    model: Annotated[Path, typer.Option(help="model pack folder")] = GESTURES,
    inference_python: Annotated[
        str | None,
        typer.Option(help="Python of an environment where Roboflow's inference is installed"),
    ] = None,
    picture: Picture = None,
    json_output: Json = False,
) -> None:
    """How many cameras other people's loops carry, with the same networks and flow."""
    from benchmarks.peers import peers as measure

    measure(model, inference_python, picture, json_output)


@app.command()
def transport(
    seconds: Annotated[float, typer.Option(min=1, help="of each measurement")] = 3.0,
    picture: Picture = None,
    json_output: Json = False,
) -> None:
    """Frames from one process to another: the ring, and what others do."""
    from benchmarks.transport import transport as measure

    measure(seconds, picture, json_output)


@app.command()
def replay(
    events: Annotated[int, typer.Option(min=1000)] = 20_000, json_output: Json = False
) -> None:
    """Events a second that a client gets when it asks for what it missed."""
    from benchmarks.replay import replay as measure

    measure(events, json_output)


@app.command()
def rtsp(
    minutes: Annotated[float, typer.Option(min=0.2)] = 10.0,
    json_output: Json = False,
) -> None:
    """Two real RTSP cameras, TCP and UDP: memory, files, drops, latency."""
    from benchmarks.rtsp import rtsp as measure

    measure(minutes, json_output)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
