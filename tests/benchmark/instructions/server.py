"""A server on loopback that speaks the chat-completions protocol and misbehaves when it is told to."""

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[["Handler"], None]

USAGE = {"prompt_tokens": 300, "completion_tokens": 120, "total_tokens": 420}


class Handler(BaseHTTPRequestHandler):
    """Keeps each request and does what stands next in the script."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append({"path": self.path, "headers": headers, "body": sent})
        if not self.server.script:
            self.server.surprises += 1
            return self.send(500, "{}")
        return self.server.script.popleft()(self)

    def send(self, status: int, body: str, headers: dict[str, str] | None = None, kind: str = "application/json"):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Requests that came, the behaviours that are still to come, and how many requests came beyond them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict] = []
        self.script: deque[Behaviour] = deque()
        self.surprises = 0
        self.over = threading.Event()

    def handle_error(self, request, client_address) -> None:
        """Clients go away on purpose here."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def asked(self, number: int) -> str:
        """Return what the messages of a request say."""
        return "\n".join(message["content"] for message in self.requests[number]["body"]["messages"])


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def completion(text: object, usage: dict | None = USAGE, finish: str = "stop") -> str:
    body = {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served-name",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
    }
    return json.dumps(body if usage is None else {**body, "usage": usage})


def says(text: object, usage: dict | None = USAGE, finish: str = "stop") -> Behaviour:
    return lambda handler: handler.send(200, completion(text, usage, finish))


def ok(items: Sequence[str], usage: dict | None = USAGE) -> Behaviour:
    return says(json.dumps(list(items)), usage)


def status(number: int, message: str = "", headers: dict[str, str] | None = None, code: str | None = None) -> Behaviour:
    body = json.dumps({"error": {"message": message, "code": code}})
    return lambda handler: handler.send(number, body, headers)


def body(text: str, code: int = 200, kind: str = "application/json") -> Behaviour:
    return lambda handler: handler.send(code, text, kind=kind)


def stall(handler: Handler) -> None:
    """Send nothing until the test is over."""
    handler.server.over.wait(10)
    handler.close_connection = True


def stall_in_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    stall(handler)


def cut(handler: Handler) -> None:
    """Close the connection in the middle of the body."""
    whole = completion('["one that never arrives as a whole"]').encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def echo(code: int, prefix: str = "") -> Behaviour:
    """Repeat the caller's credentials in body, reason and headers."""

    def behave(handler: Handler) -> None:
        said = prefix + handler.headers["Authorization"]
        text = json.dumps({"error": {"message": f"{said} is not welcome at {handler.path}"}})
        if code == 200:
            text = completion(json.dumps([f"You are {said} and this is a description of the task"]))
        handler.send(code, text, {"X-Echo": said, "X-Request-Id": said})

    return behave
