"""What a test asks of any picture."""

import re
import xml.etree.ElementTree as ET

HOSTILE = "<script>alert(1)</script> & $x^2$ $ \x1b[31m\n\ufffe" + "long" * 75


def parsed(content: bytes) -> ET.Element:
    """The picture as XML: it says its size, is white and not blank, and fetches nothing."""
    root = ET.fromstring(content)
    assert (
        content.startswith(b"<svg")
        and min(float(root.attrib[side].removesuffix("pt")) for side in ("width", "height")) > 20
    )
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not re.search(r"url\((?!#)", value) and (not name.endswith("href") or value.startswith("#"))
        assert element.tag.rpartition("}")[2] not in ("script", "image", "foreignObject")
    (background, *_) = root.findall(".//{*}path")
    assert "#ffffff" in background.attrib["style"], "legible on a dark page too"
    return root


def texts(root: ET.Element) -> str:
    """All that is written in a picture."""
    return "\n".join(element.text or "" for element in root.iterfind(".//{*}text"))
