from __future__ import annotations

import base64
import re

import cv2
import numpy as np

from deja_vu.report import html as page


def test_pictures_are_inside_the_page() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 200
    source = re.search(r"base64,([^\"]*)", page.picture(image, "red"))[1]
    read = cv2.imdecode(np.frombuffer(base64.b64decode(source), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(read[0, 0].astype(int) - [0, 0, 200]).max() < 6


def test_whatever_is_said_is_text() -> None:
    evil = "<script>alert(1)</script>"
    whole = page.page(
        evil,
        evil,
        [
            page.section(evil, page.tiles({evil: evil}), page.table([evil, evil], [[evil, evil]]), lead=evil),
            page.verdicts([page.Verdict("bad", evil, evil)]),
            page.fold(evil, page.preformatted(evil), page.paragraph(evil)),
            page.gallery({evil: np.zeros((8, 8, 3), np.uint8)}),
        ],
    )
    assert "<script" not in whole
    assert whole.count("&lt;script&gt;") == 18
    assert "http" not in whole  # it asks the network for nothing


def test_numbers_stand_under_each_other_and_names_do_not() -> None:
    text = page.table(["name", "PSNR"], [["avatar", "31.5"], ["copy", "7.0"]])
    assert text.count("<td class=number>") == 2
    assert "<td>avatar</td>" in text
