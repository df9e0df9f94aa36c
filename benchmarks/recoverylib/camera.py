"""A network camera: rendered weld pictures as MJPEG over HTTP, live, to whoever asks.

usage: python -m benchmarks.recoverylib.camera PORT FPS SEED
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from agent.capture.picture import RgbPicture
from agent.capture.pyav import jpeg
from platforms.manufacturing.weld_scene import WeldScene

PICTURES = 60
WIDTH, HEIGHT = 640, 360


class Handler(BaseHTTPRequestHandler):
    """One viewer; it gets the picture of the moment at each step of the clock."""

    pictures: ClassVar[list[bytes]] = []
    fps: ClassVar[float] = 10.0

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/x-mixed-replace; boundary="frame"')
        self.end_headers()
        step = int(time.monotonic() * self.fps)
        try:
            while True:
                data = self.pictures[step % len(self.pictures)]
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                self.wfile.write(head + data + b"\r\n")
                step += 1
                time.sleep(max(0.0, step / self.fps - time.monotonic()))
                step = max(step, int(time.monotonic() * self.fps))
        except OSError:
            return


def main() -> None:
    port, fps, seed = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    scene = WeldScene(seed, WIDTH, HEIGHT, fps)
    Handler.pictures = [jpeg(RgbPicture(scene.render(index))) for index in range(PICTURES)]
    Handler.fps = fps
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
