"""A slider of whole percents whose answer comes at once, with the keyboard and with a finger."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_mount = st.components.v2.component(
    "percent_slider",
    html='<label class="percent"><span></span><output></output>'
    '<input type="range" min="0" max="100" step="1"></label>',
    js=Path(__file__).with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,  # style.css has its looks
)


def percent_slider(label: str, key: str, default: int, disabled: bool = False) -> int:
    """Show a slider; return its percents, 0–100.

    A slider that was away for a while comes back as it was.
    """
    kept: dict[str, int] = st.session_state.setdefault("percents", {})
    value = st.session_state.get(key, {}).get("value", kept.get(key, default))
    mounted = _mount(
        key=key,
        data={"label": label, "value": value, "disabled": disabled},
        default={"value": value},
        on_value_change=lambda: None,
    )
    kept[key] = int(mounted.value)
    return kept[key]
