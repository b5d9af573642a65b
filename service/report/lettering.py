"""Text on pictures: the typeface inside Pillow, measured and broken into lines."""

from functools import cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]


@cache
def typeface(size_px: int) -> ImageFont.FreeTypeFont:
    face = ImageFont.load_default(size_px)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType: install its wheel from the package index")
    return face


def lines(text: str, size_px: int, width_px: int) -> list[str]:
    """`text` broken between words so that each line fits; a word longer than a line stays whole."""
    face = typeface(size_px)
    broken: list[str] = []
    for word in text.split():
        longer = f"{broken[-1]} {word}" if broken else word
        if broken and face.getlength(longer) <= width_px:
            broken[-1] = longer
        else:
            broken.append(word)
    return broken


def write(
    canvas: Image.Image, at: tuple[float, float], text: str, size_px: int, colour: Colour, anchor: str = "la"
) -> None:
    ImageDraw.Draw(canvas).text(at, text, fill=colour, font=typeface(size_px), anchor=anchor)
