"""A real RTSP server for the tests, run as a child by the system's Python (GStreamer's bindings live there).

    /usr/bin/python3 rtsp_server.py --mount /cam=CLIP.mp4 [--mount …] [--port N] [--user U --password P [--digest]]

It prints `port N` once it listens. A mount `/cam=CLIP.mp4@2.5` stops sending after 2.5 s while the connection stays.
"""

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def factory(clip: str, stall_after_s: float | None, role: str | None) -> "GstRtspServer.RTSPMediaFactory":
    made = GstRtspServer.RTSPMediaFactory()
    made.set_launch(
        f"( filesrc location={clip} ! qtdemux ! h264parse config-interval=1 ! valve name=valve drop-mode=drop-all"
        " ! rtph264pay name=pay0 pt=96 )"
    )
    if role is not None:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role(role, "media.factory.access", True)
        permissions.add_permission_for_role(role, "media.factory.construct", True)
        made.set_permissions(permissions)
    if stall_after_s is not None:
        made.connect("media-configure", stall_later, stall_after_s)
    return made


def stall_later(_factory: object, media: "GstRtspServer.RTSPMedia", after_s: float) -> None:
    valve = media.get_element().get_by_name("valve")

    def shut() -> bool:
        valve.set_property("drop", True)
        return False

    GLib.timeout_add(int(after_s * 1000), shut)


def protect(server: "GstRtspServer.RTSPServer", user: str, password: str, digest: bool) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if digest:
        auth.set_supported_methods(gi.repository.GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0")
    parser.add_argument("--mount", action="append", default=[])
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true")
    args = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(args.port)
    if args.user:
        protect(server, args.user, args.password, args.digest)
    for mount in args.mount:
        path, _, clip = mount.rpartition("=")
        clip, _, stall = clip.partition("@")
        made = factory(clip, float(stall) if stall else None, "viewer" if args.user else None)
        server.get_mount_points().add_factory(path, made)
    if server.attach(None) == 0:
        sys.exit(f"port {args.port} is taken")
    print(f"port {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
