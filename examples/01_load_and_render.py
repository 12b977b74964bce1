"""Load an avatar and render it from three sides.

    python examples/01_load_and_render.py runs/demo

Reads a run folder (`make demo` makes runs/demo), or an avatar.safetensors alone. Writes views.png.
"""

import sys

from PIL import Image

import deja_vu


def main(run: str, size: int = 384) -> None:
    me = deja_vu.load(run)
    print(f"{me.subject.name}: {me.avatar.config}")
    sheet = Image.new("RGB", (3 * size, size))
    for column, yaw in enumerate((-30, 0, 30)):  # degrees; positive is to the person's own left
        sheet.paste(me.render("smile", yaw=yaw, size=size), (column * size, 0))
    sheet.save("views.png")
    print("written: views.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
