"""HTML pages that hold all they show: written from templates, with images as data URIs."""

from __future__ import annotations

import base64
import functools
import io
from typing import Any

from PIL import Image


def rendered(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: of Jinja, by its path within the package; it may include ``utils/page_head.html``.
        values: what it names, escaped; one that is missing is an error.
    """
    return _environment().get_template(template).render(**values)


@functools.cache  # with the templates that it has compiled
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("itm_lightning", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(image: Image.Image, kind: str = "png", **options: Any) -> str:
    """An image within a page.

    Args:
        image: a JPEG must be RGB.
        kind: of file, ``"png"`` or ``"jpeg"``.
        options: of :meth:`PIL.Image.Image.save`.
    """
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
