"""Move the face of an avatar by the names of its expressions.

    python examples/02_set_expressions.py runs/demo

An expression is a number by name, 0 for none and 1 for all of it; the names are those of Apple's ARKit, which phones and animation programs
write too. Reads a run folder or an avatar.safetensors. Writes expressions.png: one row of strengths for each expression.
"""

import sys

from PIL import Image

import deja_vu

STRENGTHS = (0.0, 0.35, 0.7, 1.0)
ROWS = (("jawOpen",), ("mouthSmileLeft", "mouthSmileRight"), ("eyeBlinkLeft",), ("browInnerUp",))


def main(run: str, size: int = 256) -> None:
    me = deja_vu.load(run)
    print("This head knows:", ", ".join(me.head.spec.expression_names))
    sheet = Image.new("RGB", (len(STRENGTHS) * size, len(ROWS) * size))
    for row, names in enumerate(ROWS):
        for column, strength in enumerate(STRENGTHS):
            face = dict.fromkeys(names, strength)
            sheet.paste(me.render(face, yaw=10, size=size), (column * size, row * size))
    sheet.save("expressions.png")
    print("written: expressions.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
