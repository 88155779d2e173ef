"""A real RTSP server for tests, which plays clips as H.264 in an endless loop.

Runs with the system's Python, which has GStreamer's bindings (gir1.2-gst-rtsp-server-1.0)::

    /usr/bin/python3 rtsp_server.py --port 8554 door=a.mp4 hall=b.mp4,c.mp4 bars=test

Each clip is encoded once, at the start, so that serving costs next to nothing. It begins with a key
frame and has one at least every 30 frames, or as ``--key-every`` says. With ``--begin`` a client
hears the first such frames of a loop only in the next one, like one that comes amid a stream.
Each client gets a stream from its first frame on. With ``--shared`` all get the same unit at the
same time, as from a camera.
Prints ``ready PORT`` when it listens.
"""

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

TEST_PATTERN_FRAMES = 150
CAPS = "video/x-h264,stream-format=byte-stream,alignment=au"


def encode(clip: str, width: int, height: int, fps: int, key_every: int) -> list[Gst.Buffer]:
    """Encode a clip (a file, or ``test``) to H.264 access units; exits with the reason on error."""
    source = (
        f"videotestsrc num-buffers={TEST_PATTERN_FRAMES} ! video/x-raw,framerate={fps}/1"
        if clip == "test"
        else "filesrc name=file ! decodebin"
    )
    pipeline = Gst.parse_launch(
        f"{source} ! videoconvert ! videoscale ! videorate "
        f"! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 "
        "! x264enc tune=zerolatency speed-preset=veryfast bitrate=2000 threads=1 "
        f"key-int-max={key_every} option-string=scenecut=0 "
        f"! h264parse config-interval=-1 ! {CAPS} ! appsink name=sink sync=false"
    )
    if clip != "test":
        pipeline.get_by_name("file").set_property("location", clip)
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    units = []
    while sample := sink.emit("pull-sample"):
        units.append(sample.get_buffer())
    error = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    if error is not None or not units:
        sys.exit(f"rtsp_server: {clip}: {error.parse_error()[0].message if error else 'no frames'}")
    return units


def amid(units: list[Gst.Buffer], begin: int) -> list[Gst.Buffer]:
    """``units`` from the one numbered ``begin`` on, which gets the settings of the first."""
    first = units[0].extract_dup(0, units[0].get_size())
    settings = first[: first.rfind(b"\0\0\1\x65")]  # all that stands before the key frame's slice
    rest = units[begin].extract_dup(4, units[begin].get_size() - 4)
    changed = Gst.Buffer.new_wrapped(settings.rstrip(b"\0") + b"\0\0\0\1" + rest)
    return [changed, *units[begin + 1 :], *units[:begin]]


class LoopedStream(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]  # gi is untyped
    """Serves access units in a loop, to each client from the first or to all at the same time."""

    def __init__(self, units: list[Gst.Buffer], fps: int, shared: bool) -> None:
        super().__init__()
        self._units = units
        self._period = Gst.SECOND // fps
        self._shared = shared
        self.set_shared(True)
        self.set_protocols(GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP)

    def do_gen_key(self, url: GstRtsp.RTSPUrl) -> str:
        """What clients must have in common to share the stream.

        By default the port is part of it, which is another one behind a relay.
        """
        return str(url.abspath)

    def do_create_element(self, _url: GstRtsp.RTSPUrl) -> Gst.Element:
        description = (
            f"appsrc name=units format=time is-live=true max-bytes=200000 caps={CAPS} "
            "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1"
        )
        return Gst.parse_launch(f"( {description} )")

    def do_configure(self, media: GstRtspServer.RTSPMedia) -> None:
        # The factory's own setting would be passed on by the method that this one replaces.
        media.set_shared(self._shared)
        source = media.get_element().get_by_name("units")
        source.connect("need-data", self._feed, [0])

    def _feed(self, source: Gst.Element, _size: int, position: list[int]) -> None:
        index = position[0]
        position[0] += 1
        unit = self._units[index % len(self._units)].copy()
        unit.pts = unit.dts = index * self._period
        unit.duration = self._period
        source.emit("push-buffer", unit)


def require_login(
    server: GstRtspServer.RTSPServer, user: str, password: str, digest: bool, certificate: str
) -> None:
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    if certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(certificate))
    server.set_auth(auth)


def allow_viewer(factory: LoopedStream) -> None:
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("streams", nargs="+", metavar="NAME=CLIP[,CLIP…]")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true", help="digest instead of basic login")
    parser.add_argument("--certificate", default="", help="speak RTSPS; PEM, with its key")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--key-every", type=int, default=30, help="frames")
    parser.add_argument("--begin", type=int, default=0, help="the frame that a client hears first")
    parser.add_argument("--shared", action="store_true", help="one stream for all clients")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(arguments.port))
    if arguments.user:
        require_login(
            server, arguments.user, arguments.password, arguments.digest, arguments.certificate
        )
    size = arguments.width, arguments.height, arguments.fps, arguments.key_every
    encoded: dict[str, list[Gst.Buffer]] = {}
    for stream in arguments.streams:
        name, _, clips = stream.partition("=")
        units = []
        for clip in clips.split(","):
            if clip not in encoded:
                encoded[clip] = encode(clip, *size)
            units += encoded[clip]
        if arguments.begin:
            units = amid(units, arguments.begin)
        factory = LoopedStream(units, arguments.fps, arguments.shared)
        if arguments.user:
            allow_viewer(factory)
        server.get_mount_points().add_factory(f"/{name}", factory)
    if server.attach(None) == 0:
        sys.exit(f"rtsp_server: port {arguments.port} is taken")
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
