from __future__ import annotations

from deja_vu.heads import load_head
from deja_vu.motion.actor import PRESETS
from deja_vu.motion.labels import OTHERS, TURNS, label, presets, sections


def test_every_expression_of_the_head_has_one_slider_with_a_name_of_its_own() -> None:
    names = load_head("anny").spec.expression_names
    found = sections(names)
    assert sorted(control.name for section in found for control in section.controls) == sorted(names)
    for section in found:
        labels = [control.label for control in section.controls]
        assert len(set(labels)) == len(labels)
        assert max(len(word) for text in labels for word in text.split()) <= 9  # so that no narrow column breaks a word
    assert OTHERS not in [section.title for section in found]
    assert [section.title for section in found if section.opened] == ["Jaw and tongue", "Mouth"]


def test_what_is_wanted_most_comes_first_and_both_sides_stay_together() -> None:
    found = {section.title: [control.name for control in section.controls] for section in sections(load_head("anny").spec.expression_names)}
    assert found["Jaw and tongue"][0] == "jawOpen"
    assert found["Mouth"][:2] == ["mouthSmileLeft", "mouthSmileRight"]
    assert found["Eyes"][:2] == ["eyeBlinkLeft", "eyeBlinkRight"]


def test_names_that_no_region_knows_stand_in_the_open() -> None:
    (section,) = sections(("exp_00", "exp_01"))
    assert (section.title, section.opened) == (OTHERS, True)
    assert [control.label for control in section.controls] == ["Exp 00", "Exp 01"]


def test_words_leave_out_what_the_section_says() -> None:
    assert label("mouthDimpleLeft", "mouth") == "Dimple left"
    assert label("mouthLeft", "mouth") == "Left"
    assert label("jawOpen") == "Jaw open"
    assert label("brow", "brow") == "Brow"


def test_every_preset_is_named_once() -> None:
    named = [name for labels in presets().values() for name in labels]
    assert sorted(named) == sorted(PRESETS)
    assert presets()["Vowel"]["a"] == "A (ah)"
    assert len({turn.name for turn in TURNS}) == len(TURNS)
