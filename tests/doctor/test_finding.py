from __future__ import annotations

import json

from cnnkit.doctor.finding import IDS, Finding, Health, Severity


def test_health_is_the_json_document_of_the_doctor() -> None:
    finding = Finding("duplicate", Severity.NOTE, (("a/1.jpg", "a/2.jpg"),), "2 images in 1 set of copies")
    document = json.loads(json.dumps(Health(3, {"a": 2, "b": 1}, [finding], ["one note"]).to_dict()))
    assert document == {
        "images": 3,
        "classes": {"a": 2, "b": 1},
        "findings": [{"id": "duplicate", "severity": "note", "files": [["a/1.jpg", "a/2.jpg"]], "message": "2 images in 1 set of copies"}],
        "notes": ["one note"],
    }


def test_names_of_any_bytes_survive_into_json() -> None:
    path = b"a/\xff.jpg".decode(errors="surrogateescape")
    document = json.dumps(Health(1, {"a": 1}, [Finding("tiny", Severity.NOTE, ((path,),), "")]).to_dict())
    assert json.loads(document)["findings"][0]["files"] == [[path]]


def test_a_severity_equals_its_text() -> None:
    assert [str(severity) for severity in Severity] == ["error", "warning", "note"]
    assert Severity.ERROR == "error"
    assert len(set(IDS)) == len(IDS)


def test_the_health_is_short_in_a_shell() -> None:
    finding = Finding("tiny", Severity.WARNING, (("a.jpg",),) * 1000, "too small")
    assert repr(Health(1234, {"ants": 1000, "bees": 234}, [finding] * 3)) == "Health(1,234 images, 2 classes, findings: tiny)"
    assert repr(Health(2, {"ants": 2}, [])).endswith("findings: none)")
