"""How the objects of the API show themselves in a notebook."""

from __future__ import annotations

from importlib import import_module


class Shown:
    """Has what `nsight_tools.report.notebook` says of it as its HTML; that is loaded when it is shown, not before."""

    def _repr_html_(self) -> str:
        # By name: what shows stands above what is shown.
        html: str = import_module("nsight_tools.report.notebook").html(self)
        return html
