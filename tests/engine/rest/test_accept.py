"""Which form a request has, and which one its answer gets."""

import pytest
from starlette.datastructures import Headers

from engine.rest.accept import Form, sent, wanted
from engine.rest.refused import Refused


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Form.XML),
        ("", Form.XML),
        ("*/*", Form.XML),
        ("application/json", Form.JSON),
        ("text/xml", Form.XML),
        ("APPLICATION/JSON; charset=utf-8", Form.JSON),
        ("application/xml;q=0.5, application/json", Form.JSON),
        ("application/xml, application/json", Form.XML),
        ("text/html, application/json;q=0.1", Form.JSON),
        ("application/json;q=nonsense, */*;q=0.01", Form.XML),
    ],
)
def test_the_best_of_what_is_accepted_wins(accept: str | None, form: Form) -> None:
    headers = {} if accept is None else {"accept": accept}
    assert wanted(Headers(headers), Form.XML) is form


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*", ";;;,,"])
def test_neither_form_is_406(accept: str) -> None:
    with pytest.raises(Refused) as refused:
        wanted(Headers({"accept": accept}), Form.XML)
    assert refused.value.status == 406


def test_the_form_of_a_body_is_said_by_its_type() -> None:
    assert sent(Headers({"content-type": "application/xml; charset=UTF-8"})) is Form.XML
    assert sent(Headers({"content-type": 'text/json; charset="utf-8"'})) is Form.JSON


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/xml; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_a_body_of_another_type_is_415(headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        sent(Headers(headers))
    assert refused.value.status == 415
