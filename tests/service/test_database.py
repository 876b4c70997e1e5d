"""The database: SQLite always, PostgreSQL (slow) where Debian's package is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from faces.command import UserError
from service.database import Database, Kept
from service.tables import Face, Image, Table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server on a socket in a folder of its own; yields that socket."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    programs = Path(initdb).resolve().parent
    as_user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres" if has_user("postgres") else "nobody")
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    make = [programs / "initdb", "-D", data, "-U", "twostage", "-A", "trust", "--no-sync"]
    subprocess.run([*as_user, *make], **quiet)  # type: ignore[call-overload]
    server = subprocess.Popen(
        [*as_user, programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    socket = folder / ".s.PGSQL.5432"
    try:
        for _ in range(200):
            ready = [programs / "pg_isready", "-q", "-h", folder]
            if subprocess.run(ready, check=False).returncode == 0:
                break
            time.sleep(0.1)
        yield str(socket)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def has_user(name: str) -> bool:
    return any(user.pw_name == name for user in pwd.getpwall())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/service.sqlite3"
    socket = request.getfixturevalue("postgresql")
    import pg8000.native

    name = f"t{time.time_ns()}"
    connection = pg8000.native.Connection("twostage", unix_sock=socket, database="postgres")
    connection.run(f"CREATE DATABASE {name}")
    connection.close()
    return f"postgresql://twostage@/{name}?unix_sock={socket}"


def row(faces: int = 2) -> Image:
    return Image(
        **{"sha256": "0" * 64, "width": 3, "height": 4, "detector": "d", "classifier": "c"},
        weights={"c": "1"},
        options={},
        faces=[
            Face(number=n, x1=0, y1=0, x2=1, y2=1, score=0.5, probabilities=[1 / 7] * 7)
            for n in range(1, faces + 1)
        ],
    )


def test_what_is_written_is_read_again(url: str) -> None:
    database = Database(url)
    image_id = database.add(row(), Kept(None, [b"one", b"two"], time.time() + 9))
    assert database.give_feedback(image_id, 2, ["happy", "sad"], "anna")
    assert database.give_feedback(image_id, 2, ["fear"], "anna")
    assert database.give_feedback(image_id, 2, ["happy"], "ben")
    assert not database.give_feedback(image_id, 3, ["happy"], "ben")
    (face,) = database.judged_faces(crops=True)
    assert (face.number, face.crop, face.image.weights) == (2, b"two", {"c": "1"})
    assert sorted(said.emotions for said in face.feedback) == [["fear"], ["happy"]]
    assert all("anna" not in said.sender for said in face.feedback)
    assert database.stats()["senders"] == 2
    assert database.ready()
    assert database.delete(image_id) and not database.delete(image_id)
    assert database.stats()["feedback"] == 0


def test_a_crop_lasts_until_its_time_or_with_feedback(url: str) -> None:
    database = Database(url)
    now = time.time()
    image_id = database.add(row(), Kept(None, [b"one", b"two"], now + 100))
    database.give_feedback(image_id, 1, ["sad"], "anna")
    database.clean_up(90, now + 99)
    database.give_feedback(image_id, 2, ["sad"], "anna")
    database.clean_up(90, now + 101)
    assert [face.crop for face in database.judged_faces(crops=True)] == [b"one", b"two"]
    other = database.add(row(), Kept(None, [b"three", b"four"], now + 100))
    database.clean_up(90, now + 101)
    database.give_feedback(other, 1, ["sad"], "anna")
    assert [face.crop for face in database.judged_faces(crops=True)][-1] is None


def test_two_writers_at_once_lose_nothing(url: str) -> None:
    databases = [Database(url), Database(url)]
    image_id = databases[0].add(row(1), Kept())

    def write(number: int) -> None:
        for turn in range(25):
            databases[number % 2].add(row(1), Kept())
            databases[number % 2].give_feedback(image_id, 1, ["sad"], f"{number} {turn}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = databases[0].stats()
    assert (stats["images"], stats["feedback"]) == (101, 100)


def test_one_sender_at_once_has_one_voice(url: str) -> None:
    database = Database(url)
    image_id = database.add(row(1), Kept())
    threads = [
        threading.Thread(target=database.give_feedback, args=(image_id, 1, ["sad"], "anna"))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.stats()["feedback"] == 1


KILLED = """
import sys
from service.database import Database, Kept
from tests.service.test_database import row
database = Database(sys.argv[1])
image_id = database.add(row(1), Kept())
for number in range(100_000):
    database.give_feedback(image_id, 1, ["sad"], str(number))
    print(number, flush=True)
"""


def test_kill_9_loses_no_acknowledged_feedback(url: str) -> None:
    for turn in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, url], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        acknowledged = 0
        for line in writer.stdout:
            acknowledged = int(line) + 1
            if acknowledged == 40 + 7 * turn:
                writer.kill()
        writer.wait()
        database = Database(url)
        newest = database.stats()["feedback"]
        assert newest >= acknowledged >= 40
        for image_id in {face.image_id for face in database.judged_faces()}:
            database.delete(image_id)
        database.close()


def test_a_database_of_the_first_schema_is_migrated_with_its_rows(url: str) -> None:
    old = Database(url, revision="0001")
    with old._write.begin() as connection:
        connection.execute(
            text("INSERT INTO image VALUES ('a', 'b', 1, 2, 3.5, 'd', 'c', '{}', '{}');")
        )
        connection.execute(
            text("INSERT INTO face VALUES (1, 'a', 1, 0, 0, 1, 1, 0.5, '[0.1, 0.9]')")
        )
        connection.execute(text("INSERT INTO feedback VALUES (1, 1, 'someone', '[\"sad\"]', 4.5)"))
        assert "crop" not in {c["name"] for c in inspect(connection).get_columns("face")}
    old.close()
    new = Database(url)
    (face,) = new.judged_faces(crops=True)
    assert (face.crop, face.probabilities, face.image.time) == (None, [0.1, 0.9], 3.5)
    new.close()
    Database(url).close()  # migrating again changes nothing


def test_the_migrations_make_what_the_mapping_says(url: str) -> None:
    database = Database(url)
    with database._engine.connect() as connection:
        inspector = inspect(connection)
        for table in Table.metadata.sorted_tables:
            found = {c["name"]: c["nullable"] for c in inspector.get_columns(table.name)}
            assert found == {c.name: c.nullable for c in table.columns}


@pytest.mark.parametrize(
    "address", ["service.db", "mysql://a/b", "sqlite://", "sqlite:///:memory:", "oracle+x://y"]
)
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="--database"):
        Database(address)


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Database(f"postgresql://me:sesame@/name?unix_sock={tmp_path}/nobody")
    assert "sesame" not in str(caught.value)
    (tmp_path / "text.sqlite3").write_text("this is no database, but it is long enough" * 30)
    with pytest.raises(UserError, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path}/text.sqlite3")
