"""A slider of whole percents whose answer comes at once, with the keyboard and with a finger."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_mount = st.components.v2.component(
    "percent_slider",
    html='<label class="percent"><span></span><output></output>'
    '<input type="range" min="0" max="100" step="1"></label>',
    js=Path(__file__).with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,  # page.css has its looks
)


def percent_value(key: str, default: int) -> int:
    """Return a slider's percents, 0–100, also while it is not shown; the address has the first."""
    kept: dict[str, int] = st.session_state.setdefault("percents", {})
    if key not in kept:
        text = st.query_params.get(key, "")
        kept[key] = min(int(text), 100) if text.isdecimal() and len(text) < 4 else default
    value = st.session_state.get(key, {}).get("value")
    if value is not None:
        kept[key] = int(value)
    if kept[key] != default:
        st.query_params[key] = str(kept[key])
    else:
        st.query_params.pop(key, None)
    return kept[key]


def percent_slider(label: str, key: str, default: int, disabled: bool = False) -> None:
    """Show a slider whose value ``percent_value`` returns.

    A slider that was away for a while comes back as it was.
    """
    value = percent_value(key, default)
    _mount(
        key=key,
        data={"label": label, "value": value, "disabled": disabled},
        default={"value": value},
        on_value_change=lambda: None,
    )
