"""The page served on this machine alone: `qsjax.app` and `qsjax app`."""

import importlib.util
import socket
import threading
import webbrowser
from typing import Any

from qsjax.grid.problem import Problem, question
from qsjax.output.live import view as live

HOST = "127.0.0.1"  # nothing outside this machine reaches it


class LivePage:
    """A page that is being served.

    Attributes:
        url: its address, on this machine alone.
    """

    def __init__(self, url: str, server: Any, thread: threading.Thread) -> None:
        self.url, self._server, self._thread = url, server, thread

    def stop(self) -> None:
        """Serve it no longer; a second time does nothing."""
        loop = self._server.io_loop
        if self._thread.is_alive():
            loop.add_callback(self._server.stop)
            loop.add_callback(loop.stop)
            self._thread.join()

    def wait(self) -> None:
        """Return when it is served no longer."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def __repr__(self) -> str:
        return f"Live page at {self.url}; .stop() ends it"

    def _repr_html_(self) -> str:
        frame = f"<iframe src='{self.url}' style='width:100%;height:900px;border:0'></iframe>"
        return f"<p><a href='{self.url}' target='_blank'>{self.url}</a></p>{frame}"


def _free_port(port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        ValueError: it is no port, or something else listens there.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"port {port} is not allowed; give one from 1024 to 65535, or 0 for any")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ValueError(
                f"port {port} cannot be used ({error.strerror}); give another one, or 0 for any"
            ) from error
        return int(probe.getsockname()[1])


@question
def app(problem: Problem, *, port: int = 0, browser: bool = True) -> LivePage:
    """Serve a page with sliders on which answer and figures follow every move.

    The sliders start where the problem stands: accelerator and factors on its numbers, GPUs,
    context, q of the dense twin, and limits on the time of a token and tokens/s/user. Every move is
    answered by `explore`. The page is reached from this machine alone, and needs the extra `app`.

    Args:
        problem: of one model; several accelerators, counts and contexts are choices.
        port: on 127.0.0.1; 0 for any that is free.
        browser: whether to open it.

    Returns:
        The page; it is served by a thread of this process until `stop()`.

    Raises:
        ValueError: the problem has more than a page shows, or the port cannot be used.
        ModuleNotFoundError: Panel is not installed.
    """
    if importlib.util.find_spec("panel") is None:
        raise ModuleNotFoundError(
            "the live page needs Panel, which is not installed; pip install 'qsjax[app]'",
            name="panel",
        )
    live.check(problem)
    port = _free_port(port)
    live.view(problem, live.first(problem))  # traces the laws, so that the first move is quick
    from panel.io.server import get_server
    from tornado.ioloop import IOLoop

    from qsjax.output.live.page import Page

    server = get_server(
        {"/": lambda: Page(problem).template()},
        port=port,
        address=HOST,
        websocket_origin=[f"{HOST}:{port}", f"localhost:{port}"],
        loop=IOLoop(make_current=False),
        title=f"{problem.stated.models[0].name} - qsjax",
    )
    server.start()
    thread = threading.Thread(target=server.io_loop.start, name="qsjax-app", daemon=True)
    thread.start()
    url = f"http://{HOST}:{port}/"
    if browser:
        webbrowser.open_new_tab(url)
    return LivePage(url, server, thread)
