"""A link as a QR code: SVG for print, PNG for a chat."""

from io import BytesIO

import segno

MODULE_PX = 8  # PNG pixels a module: an A6 poster at 150 dpi


def qr_svg(address: str) -> bytes:
    """Level M (15 % may be dirty); as few modules as the address allows."""
    out = BytesIO()
    segno.make_qr(address, error="m").save(
        out, kind="svg", scale=4, light="white", svgclass=None, lineclass=None, xmldecl=False
    )  # on its own white ground: on a dark page the modules alone would be dark on dark
    return out.getvalue()


def qr_png(address: str) -> bytes:
    out = BytesIO()
    segno.make_qr(address, error="m").save(out, kind="png", scale=MODULE_PX)
    return out.getvalue()
