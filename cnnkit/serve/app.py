"""The addresses of the server: predictions, the Open Inference Protocol v2, metrics, and the page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from cnnkit.api.inference.predict import Prediction
from cnnkit.config.serving import ServeLimits
from cnnkit.data.source import StoredImage
from cnnkit.files import json_text
from cnnkit.report.page.serve import serve_html
from cnnkit.serve.batching import Batcher, ModelFailedError, Probabilities, QueueFullError
from cnnkit.serve.gate import BodyReader, Gate, refusal, refuse_slowly
from cnnkit.serve.inference_protocol import LENGTH_HEADER, VERSION, describe_request, model_metadata, read_request, write_response
from cnnkit.serve.metrics import CONTENT_TYPE, ServerMetrics
from cnnkit.serve.model import ServedModel
from cnnkit.serve.preparation import Preparation
from cnnkit.serve.uploads import MAX_IMAGES, MAX_NAME_LENGTH, RequestError, read_uploads

DEFAULT_TOP = 5  # classes of a prediction, the most probable first
QUERY = {"top": "a whole number of at least 1, such as ?top=3", "probabilities": "true or false"}  # parameters of /predict
NOT_ALLOWED = 405
UNREADABLE = 422  # the status if no image of a request can be read
PREDICT_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}}}
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "additionalProperties": False,
                "properties": {"images": {"type": "array", "maxItems": MAX_IMAGES, "items": {"type": "string", "format": "byte"}}},
            }
        },
    },
}
INFER_BODY = describe_request({"inputs": [{"name": "files", "datatype": "BYTES", "shape": [1], "data": ["BASE64"]}]})


class Service:
    """The model of a server with its queue; `is_stopping` tells if the server takes no new requests."""

    def __init__(self, model: ServedModel, limits: ServeLimits) -> None:
        self.model = model
        self.metrics = ServerMetrics()
        self.bodies = BodyReader(round(1e6 * limits.megabytes))
        preparation = Preparation(model.spec, model.draft_side, max_pixels=model.max_pixels(limits.megapixels), seconds=limits.seconds)
        self.batcher = Batcher(model, preparation, limits.queue, self.metrics)
        self.is_stopping: Callable[[], bool] = lambda: False

    @property
    def is_ready(self) -> bool:
        """True if the model can predict."""
        return not self.batcher.failed and not self.is_stopping()

    async def predict(self, images: Sequence[StoredImage], names: Sequence[str]) -> list[Prediction]:
        """Return the predictions for the images of a request; raises the errors of the queue and of the model."""
        try:
            found = await self.batcher.probabilities(images)
        except ModelFailedError:
            raise RequestError(500, "the model cannot be run any more; the log of the server has the reason") from None
        predictions = self._predictions(found, names)
        for prediction in predictions:
            outcome = "error" if prediction.error else "abstained" if prediction.abstained else "predicted"
            self.metrics.images.labels(outcome).inc()
        return predictions

    def check_name(self, name: str, number: str) -> None:
        """Raise `RequestError` unless `name` and `number` are those of the model and its only version."""
        if (name, number) != (self.model.name, VERSION):
            raise RequestError(404, f"no such model; this server has {self.model.name!r}, version {VERSION}")

    def readiness(self) -> JSONResponse:
        """Return the response that says whether the model can predict."""
        return JSONResponse({"name": self.model.name, "ready": self.is_ready}, 200 if self.is_ready else 503)

    def _predictions(self, found: Sequence[Probabilities], names: Sequence[str]) -> list[Prediction]:
        rows = [row for row in found if not isinstance(row, str)]
        readable = iter(self.model.predictions(np.stack(rows)) if rows else [])
        empty_set = () if self.model.rules.label_sets else None
        return [
            Prediction(name, self.model.classes, None, row, label_set=empty_set)
            if isinstance(row, str)
            else replace(next(readable), path=name)
            for row, name in zip(found, names, strict=True)
        ]


def build_app(service: Service) -> FastAPI:
    """Return the application of one model."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        service.batcher.start()
        await service.batcher.warm_up()
        yield
        await service.batcher.close()

    app = FastAPI(
        title=f"cnnkit: {service.model.name}",
        version=version("cnnkit"),
        docs_url=None,  # its scripts come from another host
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.add_middleware(Gate, metrics=service.metrics, is_full=lambda: service.batcher.is_full)
    app.exception_handler(RequestError)(_refuse)
    app.exception_handler(QueueFullError)(_refuse_slowly)
    app.exception_handler(StarletteHTTPException)(_refuse_http)
    app.exception_handler(RequestValidationError)(_refuse_query)
    _add_prediction(app, service)
    _add_metadata(app, service)
    _add_inference(app, service)
    _add_pages(app, service)
    return app


def _add_prediction(app: FastAPI, service: Service) -> None:
    most = len(service.model.classes)

    @app.post("/predict", openapi_extra={"requestBody": PREDICT_BODY}, summary="Classify images")
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, description="Number of classes, the most probable first.")] = DEFAULT_TOP,
        probabilities: Annotated[bool, Query(description="Add the probability of every class.")] = False,  # noqa: FBT002 (a parameter of the address)
    ) -> Response:
        """Return one row per image, in the order sent, with the keys of `cnnkit predict --json`."""
        unknown = sorted(set(request.query_params) - set(QUERY))
        if unknown:
            raise RequestError(400, f"?{unknown[0][:MAX_NAME_LENGTH]}: no such parameter; allowed: {', '.join(QUERY)}")

        async def respond(body: bytes) -> Response:
            uploads = read_uploads(request.headers.get("content-type", ""), body)
            found = await service.predict([upload.data for upload in uploads], [upload.name for upload in uploads])
            rows = [_row(prediction, min(top, most), probabilities=probabilities) for prediction in found]
            code = UNREADABLE if all(prediction.error for prediction in found) else 200
            text = json_text({"model": service.model.name, "predictions": rows}, ascii_only=True)
            return Response(text, code, media_type="application/json")

        return await service.bodies.use(request, respond)


def _row(prediction: Prediction, top: int, *, probabilities: bool) -> dict[str, object]:
    best = [{"class": name, "probability": probability} for name, probability in prediction.top(top)]
    return {**prediction.row(all_probabilities=probabilities), "top": best}


def _add_metadata(app: FastAPI, service: Service) -> None:
    model = service.model

    @app.get("/v2", summary="Server metadata")
    async def server() -> dict[str, Any]:
        return {"name": "cnnkit", "version": version("cnnkit"), "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", summary="Is the server running?")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Can the server predict?")
    async def ready() -> JSONResponse:
        return service.readiness()

    @app.get("/v2/models/{name}/ready", summary="Can the model predict?")
    @app.get("/v2/models/{name}/versions/{number}/ready", include_in_schema=False)
    async def model_ready(name: str, number: str = VERSION) -> JSONResponse:
        service.check_name(name, number)
        return service.readiness()

    @app.get("/v2/models/{name}", summary="Model metadata")
    @app.get("/v2/models/{name}/versions/{number}", include_in_schema=False)
    async def metadata(name: str, number: str = VERSION) -> dict[str, Any]:
        service.check_name(name, number)
        return model_metadata(model.name, model.classes, model.path.suffix.lower())


def _add_inference(app: FastAPI, service: Service) -> None:
    @app.post("/v2/models/{name}/infer", openapi_extra={"requestBody": INFER_BODY}, summary="Predict tensors")
    @app.post("/v2/models/{name}/versions/{number}/infer", include_in_schema=False)
    async def infer(request: Request, name: str, number: str = VERSION) -> Response:
        service.check_name(name, number)

        async def respond(body: bytes) -> Response:
            wanted, images = read_request(body, request.headers.get(LENGTH_HEADER))
            found = await service.predict(images, [""] * len(images))
            for index, prediction in enumerate(found):
                if prediction.error:
                    raise RequestError(UNREADABLE, f"{wanted.inputs[0].name}[{index}]: {prediction.error}")
            values = np.stack([row for prediction in found if (row := prediction.probabilities) is not None])
            response = write_response(wanted, service.model.name, found, values)
            if response.json_length is None:
                return Response(response.body, media_type="application/json")
            return Response(response.body, headers={LENGTH_HEADER: str(response.json_length)}, media_type="application/octet-stream")

        return await service.bodies.use(request, respond)


def _add_pages(app: FastAPI, service: Service) -> None:
    model = service.model
    page = serve_html(
        model.name, model.classes, has_threshold=model.rules.abstention is not None, has_sets=model.rules.label_sets is not None
    )

    @app.get("/", include_in_schema=False)
    async def start() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/metrics", summary="Metrics for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    return refusal(error.code if isinstance(error, RequestError) else 500, str(error))


async def _refuse_slowly(_: Request, __: Exception) -> JSONResponse:
    return await refuse_slowly()


async def _refuse_http(request: Request, error: Exception) -> JSONResponse:
    """Return the refusal of an unknown address or method."""
    code = error.status_code if isinstance(error, HTTPException | StarletteHTTPException) else 500
    if code == NOT_ALLOWED:
        allowed = dict(getattr(error, "headers", None) or {}).get("Allow", "").replace("GET", "GET, HEAD")
        return refusal(code, f"{request.method} is not allowed here; allowed: {allowed}", {"allow": allowed})
    known = {404: "no such address; / is the page, /openapi.json lists the others"}
    return refusal(code, known.get(code, "the request cannot be served"))


async def _refuse_query(_: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": ("request",), "msg": "not valid"}
    name, given = str(first["loc"][-1]), str(first.get("input", ""))[:MAX_NAME_LENGTH]
    return refusal(400, f"?{name}={given}: must be {QUERY[name]}" if name in QUERY else f"{name}: {first['msg']}")
