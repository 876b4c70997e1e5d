"""The page's visitors as the server knows them.

The only module that reads Streamlit's internals: its public interface does not tell who has left.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamlit.runtime import get_instance
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from demo.session import Session


@dataclass(frozen=True)
class Visitor:
    """One open page, or one whose browser has left a short while ago."""

    name: str  # Streamlit's name of the session
    connected: bool  # the browser has not left
    session: Session | None  # what the page keeps; None until the page is drawn


def visitors() -> list[Visitor]:
    """Return all visitors."""
    found = []
    for info in get_instance()._session_mgr.list_sessions():
        state = info.session.session_state
        kept = state["session"] if "session" in state else None
        session = kept if isinstance(kept, Session) else None
        found.append(Visitor(info.session.id, info.client is not None, session))
    return found


def close(visitor: Visitor) -> None:
    """Free all that is kept for a visitor; to be called in the server's event loop."""
    if visitor.session is not None:
        visitor.session.clear()
    runtime = get_instance()
    runtime.close_session(visitor.name)
    runtime.media_file_mgr.remove_orphaned_files()  # the second time, downloads are removed, too


def photo_bytes(visitor: Visitor) -> int:
    """Return the bytes of a visitor's photos, with those that the page has not yet taken."""
    manager = get_instance().uploaded_file_mgr
    waiting = 0
    if isinstance(manager, MemoryUploadedFileManager):
        records = list(manager.file_storage.get(visitor.name, {}).values())
        waiting = sum(len(record.data) for record in records)
    return waiting + (visitor.session.photo_bytes if visitor.session else 0)


def remove_download(file: str) -> None:
    """Remove a file that a page offered for download, named as in its address."""
    get_instance().media_file_mgr._storage.delete_file(file.partition(".")[0])
