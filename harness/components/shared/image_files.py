"""Image files: what pixels a file of any depth, mode and orientation holds, and which are refused.

Pixels are grey or RGB, from 0, black, to 255, white. An image of more than 8 bits a channel keeps
them: it is float32, on the same scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.components.shared.data_files import cached_by_file
from harness.core.errors import InputError, all_problems

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

ALPHA_MODES: Final = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
MAPPED_MODES: Final = frozenset({"CMYK", "L", "P", "RGBA", "RGBX"})
ORIENTATION: Final = 0x0112
"""The EXIF tag of the orientation: 1 is upright; from 5 on, width and height change places."""
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
"""Two tags of TIFF, and a value of the second."""
END_OF_JPEG: Final = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What is known of an image file that can be read.

    size: width and height, upright. is_deep: it has more than 8 bits a channel. is_revised: version
    1.0 read other pixels, as it is deep, transparent, or an uncompressed TIFF file on its side.
    """

    size: tuple[int, int]
    is_deep: bool = False
    is_revised: bool = False


def read_pixels(path: Path, channels: int, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """Returns an image [C, H, W] from 0 to 255: uint8, or float32 if it is deep.

    channels: 1 for grey, 3 for RGB. size: the width and height that it is resized to and cropped
    about its centre; None keeps its own. Raises InputError if the file cannot be read.
    """
    import numpy as np
    from PIL import Image, ImageOps

    image, _ = _decode(path, channels)
    if size is not None and image.size != size:
        image = ImageOps.fit(image, size, method=Image.Resampling.BILINEAR)
    pixels = np.array(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    return np.broadcast_to(pixels, (channels, *pixels.shape[1:])).copy()


def examine_all(paths: Sequence[Path]) -> list[ImageFile]:
    """Returns what is known of each image. Raises InputError with every file that cannot be read.

    Each file is examined once by a process, as long as it does not change.
    """
    with ThreadPoolExecutor() as threads:  # Pillow releases the interpreter lock while it decodes.
        examined = [threads.submit(_examine_path, path) for path in paths]
    with all_problems() as attempt:
        files = [attempt(file.result) for file in examined]
    return [file for file in files if file is not None]


def _examine_path(path: Path) -> ImageFile:
    try:
        return _examine(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@cached_by_file(maxsize=65536)
def _examine(path: Path) -> ImageFile:
    return _read_header(path) or _decode(path, 3)[1]


def _read_header(path: Path) -> ImageFile | None:
    """Returns what is known of an ordinary image that is complete; None if it must be decoded."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            if file.mode not in ("1", "L", "P", "RGB", "CMYK") or "transparency" in file.info:
                return None
            if file.format == "PNG":
                # Further metadata may follow the pixels: the orientation is known after decoding.
                size = file.size
                file.verify()
                return ImageFile(size)
            if file.format in ("JPEG", "MPO") and _ends_as_jpeg(path):
                turned = file.getexif().get(ORIENTATION, 1) >= 5
                return ImageFile(file.size[::-1] if turned else file.size)
    except Exception:  # noqa: BLE001, S110 - decoders raise anything; decoding says what is wrong
        pass
    return None


def _ends_as_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read().rstrip(b"\0\r\n ").endswith(END_OF_JPEG)


def _decode(path: Path, channels: int) -> tuple[Image.Image, ImageFile]:
    """Returns an upright, opaque image: grey or RGB, or of mode "F" from 0 to 255 if it is deep.

    Raises InputError if the file cannot be read, or its values have no known white.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        # By its name, Pillow maps a TIFF file into memory, in a wrong shape if it is to be turned.
        with path.open("rb") as stream, Image.open(stream) as file:
            was_misread = _is_mapped(file) and file.getexif().get(ORIENTATION, 1) >= 5
            image = ImageOps.exif_transpose(file)
            if file.mode == "LAB":
                raise ValueError("its colours are L*a*b*: save it as RGB")
            is_deep, is_transparent = file.mode.startswith(("F", "I")), False
            if is_deep:
                image = _scale(file, image)
            else:
                image, is_transparent = _without_alpha(image)
                image = image.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise InputError(f"{path} cannot be read: it is of no known format of images") from error
    except Exception as error:  # Decoders raise OSError, SyntaxError, ValueError and others.
        raise InputError(f"{path} cannot be read: {error}") from error
    is_revised = is_deep or is_transparent or was_misread
    return image, ImageFile(image.size, is_deep, is_revised)


def _is_mapped(file: Image.Image) -> bool:
    """Whether Pillow maps an opened file into memory where it is opened by its name."""
    codecs = [tile[0] for tile in getattr(file, "tile", ())]
    return file.format == "TIFF" and codecs == ["raw"] and file.mode in MAPPED_MODES


def _scale(file: Image.Image, image: Image.Image) -> Image.Image:
    """Returns an upright image of more than 8 bits from 0 to 255, of mode "F".

    file: the opened file. Raises ValueError if it is not known which value is white.
    """
    import numpy as np
    from PIL import Image

    tags = getattr(file, "tag_v2", {})
    values = np.asarray(image, dtype=np.float64)
    if "transparency" in file.info:
        raise ValueError("it has 16 bits and a transparent value: save it without transparency")
    if file.mode == "F":
        white = 1.0
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"its floats go from {values.min():.6g} to {values.max():.6g}, and white is 1: "
                f"scale them to 0 to 1, or save it with 16 bits"
            )
    elif file.mode != "I":
        white = float(2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1)
    elif file.format in ("PNG", "PPM"):
        white = 65535.0  # Pillow's scale, whatever the file's own.
    else:
        raise ValueError("its integers have a sign or 32 bits: save it with 8 or 16 bits")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = white - values
    return Image.fromarray((values * (255 / white)).astype(np.float32))


def _without_alpha(image: Image.Image) -> tuple[Image.Image, bool]:
    """Returns an image on white, and whether it has any transparent pixel."""
    from PIL import Image

    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return image, False
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return layer.convert("RGB"), False
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer), True
