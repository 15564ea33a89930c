from __future__ import annotations

from cnnkit.doctor.copies import duplicate, label_conflict, leak, near_conflict


def test_copies_of_one_class_are_a_note(image, evidence) -> None:
    images = [image(path="ants/a.jpg", content="x"), image(path="ants/b.jpg", content="x"), image(path="ants/c.jpg")]
    found = evidence([*images, *(image() for _ in range(97))], near=[(1, 2)])
    finding = duplicate(found)
    assert finding is not None
    assert (finding.severity, finding.files) == ("note", (("ants/a.jpg", "ants/b.jpg", "ants/c.jpg"),))
    assert "3 images in 1 set of copies of one class (0 exact, 1 near), 2.0 % of all images superfluous" in finding.message
    assert label_conflict(found) is None
    assert leak(found) is None


def test_many_copies_are_a_warning(image, evidence) -> None:
    finding = duplicate(evidence([*(image(content=f"x{i // 2}") for i in range(20)), *(image() for _ in range(80))]))
    assert finding is not None
    assert finding.severity == "warning"
    assert "(10 exact, 0 near)" in finding.message


def test_a_picture_in_two_classes_is_an_error_and_no_duplicate(image, evidence) -> None:
    images = [image("cat", path="cat/1.jpg", content="x"), image("dog", path="dog/1.jpg", content="x"), image("cat")]
    found = evidence(images)
    finding = label_conflict(found)
    assert finding is not None
    assert (finding.severity, finding.files) == ("error", (("cat/1.jpg", "dog/1.jpg"),))
    assert "2 images in 1 set of copies in different classes: 'cat' and 'dog' (1)" in finding.message
    assert duplicate(found) is None


def test_a_copy_in_train_and_test_is_a_leak(image, evidence) -> None:
    images = [image(split="train", path="train/1.jpg"), image(split="test", path="test/1.jpg"), image(split="test")]
    found = evidence(images, near=[(0, 1)])
    finding = leak(found)
    assert finding is not None
    assert (finding.severity, finding.files) == ("error", (("train/1.jpg", "test/1.jpg"),))
    assert "in more than one split: train and test (1)" in finding.message
    assert "1 image of val and test is affected, so the metrics are too good" in finding.message
    assert duplicate(found) is None


def test_a_copy_in_val_and_test_is_a_warning(image, evidence) -> None:
    images = [image(split="val", content="x"), image(split="test", content="x"), image(split="train")]
    finding = leak(evidence(images))
    assert finding is not None
    assert finding.severity == "warning"


def test_a_copy_of_another_class_in_another_split_is_both(image, evidence) -> None:
    found = evidence([image("cat", split="train", content="x"), image("dog", split="test", content="x")])
    assert leak(found) is not None
    assert label_conflict(found) is not None


def test_a_group_in_two_splits_is_a_leak(image, evidence) -> None:
    images = [image(split=split, group=group) for split, group in (("train", "p1"), ("train", "p1"), ("test", "p1"), ("test", "p2"))]
    finding = leak(evidence(images))
    assert finding is not None
    assert len(finding.files) == 1
    assert len(finding.files[0]) == 2
    assert "1 group of images" in finding.message


def test_without_splits_of_the_source_there_is_no_leak(image, evidence) -> None:
    assert leak(evidence([image(content="x", group="g"), image(content="x", group="g")])) is None


def test_a_resized_picture_in_two_classes_is_a_label_conflict(image, evidence) -> None:
    found = evidence([image("cat", path="cat/1.jpg"), image("dog", path="dog/1.jpg"), image("cat")], same=[(0, 1)])
    finding = label_conflict(found)
    assert finding is not None
    assert finding.files == (("cat/1.jpg", "dog/1.jpg"),)
    assert "delete the others" in finding.message
    assert near_conflict(found) is None


def test_copies_that_differ_and_look_alikes_in_two_classes_are_a_warning_without_advice_to_delete(image, evidence) -> None:
    images = [image("good", path="good/1.png"), image("bad", path="bad/1.png"), image("good", path="good/2.png"), image("bad")]
    found = evidence([*images, image("bad", path="bad/3.png")], near=[(0, 1)], alike=[(2, 4), (0, 2)])
    finding = near_conflict(found)
    assert finding is not None
    assert (finding.id, finding.severity) == ("near-conflict", "warning")
    assert finding.files == (("good/1.png", "bad/1.png"), ("good/2.png", "bad/3.png"))
    assert "2 sets of images that are alike but for details, in different classes: 'bad' and 'good' (2)" in finding.message
    assert "--sheet" in finding.message
    assert "delete" not in finding.message.lower()
    assert label_conflict(found) is None
    assert near_conflict(evidence(images)) is None


def test_a_set_with_a_label_conflict_is_no_near_conflict_as_well(image, evidence) -> None:
    found = evidence([image("cat", content="x"), image("dog", content="x"), image("dog")], near=[(0, 2)])
    assert label_conflict(found) is not None
    assert near_conflict(found) is None


def test_copies_that_differ_are_not_to_be_deleted(image, evidence) -> None:
    finding = duplicate(evidence([image(), image()], near=[(0, 1)]))
    assert finding is not None
    assert "Delete" not in finding.message
    assert "They differ in crop, light or orientation" in finding.message
    same = duplicate(evidence([image(), image()], same=[(0, 1)]))
    assert same is not None
    assert "Delete all but one image of each picture" in same.message
