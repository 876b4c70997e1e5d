"""The wheel builder on a small archive of the same shape, and what it made of the real one."""

import base64
import csv
import hashlib
import importlib.metadata
import io
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import detectron2_wheel
import pytest
from detectron2_wheel import PATCHES, Patch, SetupError

FILES = {
    "detectron2/__init__.py": '__version__ = "0.6"\n',
    "detectron2/data/sizes.py": "import numpy as np\nx = np.zeros(3, dtype=np.int)\ny = np.int64\n",
    "detectron2/model_zoo/configs/a/b.yaml": "A: 1\n",
    "LICENSE": "Apache License\n",
    "setup.py": "raise SystemExit('never run')\n",
    "tools/train.py": "",
}
PATCH = Patch("", r"\bnp\.(int)\b", r"\1", 1, "a reason")


@pytest.fixture
def sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "pb1-detectron2-0.6.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in FILES.items():
            member = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("pb1-detectron2-0.6/detectron2/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(detectron2_wheel, "SDIST_SHA256", digest)
    return path


def stub() -> types.ModuleType:
    module = types.ModuleType("detectron2._C")
    exec(detectron2_wheel.STUB, module.__dict__)
    return module


def test_only_the_package_and_its_licence_are_kept(sdist: Path) -> None:
    files = detectron2_wheel.read_sources(sdist)
    assert sorted(files) == sorted(
        name for name in FILES if name == "LICENSE" or name.startswith("detectron2/")
    )


def test_another_archive_is_refused(sdist: Path) -> None:
    sdist.write_bytes(sdist.read_bytes() + b"x")
    with pytest.raises(SetupError, match="is not the expected archive"):
        detectron2_wheel.read_sources(sdist)


def test_a_missing_archive_is_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = detectron2_wheel.main(["--sdist", str(tmp_path / "no"), "--out", str(tmp_path / "o")])
    assert status == 1
    assert "No such file" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_patch_changes_the_alias_only_and_marks_the_file(sdist: Path) -> None:
    files = detectron2_wheel.patch_sources(detectron2_wheel.read_sources(sdist), (PATCH,))
    text = files["detectron2/data/sizes.py"].decode()
    assert "dtype=int)" in text and "np.int64" in text
    assert text.startswith("# Changed from Detectron2 v0.6") and "a reason" in text.splitlines()[0]
    assert files["detectron2/__init__.py"] == FILES["detectron2/__init__.py"].encode()


def test_sources_that_the_patches_do_not_fit_are_refused(sdist: Path) -> None:
    with pytest.raises(SetupError, match="the sources are not those of Detectron2"):
        detectron2_wheel.patch_sources(detectron2_wheel.read_sources(sdist), PATCHES)


def test_the_wheel_is_complete_and_the_same_every_time(sdist: Path, tmp_path: Path) -> None:
    files = detectron2_wheel.read_sources(sdist)
    first = detectron2_wheel.write_wheel(files, tmp_path / "one")
    second = detectron2_wheel.write_wheel(files, tmp_path / "two")
    assert first.name == "detectron2-0.6+purepython-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    with zipfile.ZipFile(first) as wheel:
        names = wheel.namelist()
        info = "detectron2-0.6+purepython.dist-info"
        rows = list(csv.reader(io.StringIO(wheel.read(f"{info}/RECORD").decode())))
        assert sorted(row[0] for row in rows) == sorted(names)
        for name, digest, size in rows[:-1]:
            data = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={expected}", len(data))
        assert {"detectron2/_C.py", f"{info}/LICENSE"} <= set(names)


def test_pip_installs_the_wheel(sdist: Path, tmp_path: Path) -> None:
    wheel = detectron2_wheel.write_wheel(detectron2_wheel.read_sources(sdist), tmp_path)
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", target, wheel], check=True)
    (found,) = importlib.metadata.distributions(name="detectron2", path=[str(target)])
    assert found.version == "0.6+purepython"
    assert "omegaconf<2.4,>=2.1" in (found.requires or [])
    assert (target / "detectron2/model_zoo/configs/a/b.yaml").read_text() == "A: 1\n"


def test_the_stub_names_the_operator_and_the_way_out() -> None:
    module = stub()
    assert "pure-Python" in module.get_compiler_version() and not module.has_cuda()
    with pytest.raises(NotImplementedError, match=r"deform_conv_forward.*use_fast_impl=False"):
        module.deform_conv_forward  # noqa: B018
    assert not hasattr(module, "__wrapped__")


def test_a_failing_pip_is_reported_with_its_message(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ERROR: no route to the index' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SetupError, match=r"no route to the index[\s\S]*--sdist FILE"):
        detectron2_wheel.fetch_sdist(tmp_path, str(python))


def test_the_installed_wheel_has_the_configuration_of_the_large_detector() -> None:
    package = importlib.metadata.distribution("detectron2")
    if not package.version.endswith("+purepython"):
        pytest.skip("an official build of Detectron2 is installed")
    root = Path(str(package.locate_file("detectron2")))
    configs = root / "model_zoo" / "configs"
    assert (configs / "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml").is_file()
    changed = root / "data" / "transforms" / "transform.py"
    code = [line for line in changed.read_text().splitlines() if not line.startswith("#")]
    assert not any("Image.LINEAR" in line for line in code)
