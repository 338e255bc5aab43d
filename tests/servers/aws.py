"""A local AWS (moto) behind a gate that checks every signature: only the real key pair gets in.

The gate computes the signature again from the request as it arrived, so a placeholder, or a body that was
changed after it was signed, is refused as AWS would.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Tell nothing: the test reads `refused` and `served`."""


Start = Callable[..., Any]


class AwsServer:
    """Serves on a free port of 127.0.0.1 while it is entered.

    Attributes:
        refused: why requests were turned away.
        served: how many came through.
    """

    def __init__(self, access_key: str, secret_key: str) -> None:
        self._credentials = Credentials(access_key, secret_key)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.refused: list[str] = []
        self.served = 0
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        request = Request(environ)
        body = request.get_data()
        environ["wsgi.input"] = io.BytesIO(body)  # for moto to read once more
        if not request.path.startswith("/moto-api/"):
            problem = self._problem(request, body)
            if problem:
                self.refused.append(problem)
                return Response(f'{{"__type": "UnrecognizedClientException", "message": "{problem}"}}', 400)(
                    environ, start_response
                )
            self.served += 1
        return self._moto(environ, start_response)

    def _problem(self, request: Request, body: bytes) -> str:
        """Why the signature does not hold; empty when it does."""
        given = request.headers.get("Authorization", "")
        scheme, _, rest = given.partition(" ")
        parts: Mapping[str, str] = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
        if scheme != "AWS4-HMAC-SHA256" or not {"Credential", "SignedHeaders", "Signature"} <= parts.keys():
            return "not signed"
        access_key, _, region, service, _ = parts["Credential"].split("/")
        if access_key != self._credentials.access_key:
            return "The security token included in the request is invalid."
        again = AWSRequest(
            method=request.method,
            url=f"https://{request.host}{request.full_path.rstrip('?')}",
            headers={name: request.headers[name] for name in parts["SignedHeaders"].split(";")},
            data=body,
        )
        again.context["timestamp"] = request.headers["X-Amz-Date"]
        auth = SigV4Auth(self._credentials, service, region)
        signature = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
        return "" if signature == parts["Signature"] else "The request signature does not match."
