"""The files of conf/container agree with each other and with the program. `ctest -C long -L container` runs the image."""

import pathlib
import re
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/e2e"))

import daemon  # noqa: E402

yaml = pytest.importorskip("yaml")

DIRECTORY = TOP / "conf/container"
CONFIG = (DIRECTORY / "imcallbackd.conf").read_text()
CONTAINERFILE = (DIRECTORY / "Containerfile").read_text()
COMPOSE = yaml.safe_load((DIRECTORY / "compose.yaml").read_text())
MANIFEST = {(part["kind"], part["metadata"]["name"]): part
            for part in yaml.safe_load_all((DIRECTORY / "kubernetes.yaml").read_text())}
POD = MANIFEST["StatefulSet", "imcallbackd"]["spec"]["template"]["spec"]
(RECEIVER,) = POD["containers"]
OURS = {name: service for name, service in COMPOSE["services"].items() if name != "proxy"}
CONFIG_PATH = "/etc/imcallbackd/imcallbackd.conf"


def checked(one, text):
    """Returns the result of `check` for the configuration of the image, with the files of a test."""
    secrets = one.directory / "secrets"
    secrets.mkdir(exist_ok=True)
    for name, source in {"certificate.pem": "certificate.pem", "key.pem": "key.pem"}.items():
        (secrets / name).write_bytes((one.directory / source).read_bytes())
    for name in ("token", "forward-password", "webhook-secret"):
        (secrets / name).write_text("whsec_aW1jYWxsYmFja2QgZGVsaXZlciwgYSBzZWNyZXQgZm9yIHRlc3Rz\n")
    for path in secrets.iterdir():
        path.chmod(0o400)
    for directory, instead in {"/run/secrets": secrets, "/var/lib/imcallbackd": one.directory}.items():
        text = text.replace(directory, str(instead))
    one.write_text(f"{text}\n[store]\ndatabase = {one.directory}/callbacks.db\n")
    return daemon.run(daemon.BINARY, "check", "-c", one.config)


@pytest.fixture
def one():
    one = daemon.Daemon()
    yield one
    one.destroy()


@pytest.mark.parametrize("all_keys", [False, True])
def test_configuration_is_accepted(one, all_keys):
    text = re.sub(r"(?m)^#(\w+ = )", r"\1", CONFIG) if all_keys else CONFIG
    text = text.replace("https://app.example.com/", "http://127.0.0.1:1/").replace("@db/", "@127.0.0.1:1/")
    done = checked(one, text)
    assert done.returncode == 0, done
    assert "format = json" in done.stdout


def test_manifest_has_the_configuration_of_the_image():
    assert MANIFEST["ConfigMap", "imcallbackd"]["data"] == {"imcallbackd.conf": CONFIG}


def test_user_is_the_same_everywhere():
    user = re.search(r"(?m)^USER (\d+):\1$", CONTAINERFILE)[1]
    assert f"\nuser={user}\n" in (DIRECTORY / "image-root.sh").read_text()
    assert {service["user"] for service in OURS.values()} == {f"{user}:{user}"}
    assert {POD["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}
    assert f"user {user} " in CONFIG and f"user {user} " in (DIRECTORY / "compose.yaml").read_text()


def test_containers_have_no_rights_that_they_do_not_need():
    for service in OURS.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    rights = RECEIVER["securityContext"]
    assert rights == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert POD["securityContext"]["runAsNonRoot"] and not POD["automountServiceAccountToken"]


def test_containers_have_time_to_drain():
    for service in OURS.values():
        assert service["stop_grace_period"] == "15s"
    pause = RECEIVER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] >= pause + daemon.STOP_DEADLINE + 5


def test_ports_are_those_of_the_configuration():
    exposed = re.search(r"(?m)^EXPOSE (\d+) (\d+)$", CONTAINERFILE).groups()
    ports = {port["name"]: port["containerPort"] for port in RECEIVER["ports"]}
    assert ports == {"callback": int(exposed[0]), "admin": int(exposed[1])}
    assert f"port = {exposed[0]}\n" in CONFIG
    probes = {name: RECEIVER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"startup": {"path": "/healthz", "port": "admin"}, "readiness": {"path": "/readyz", "port": "admin"},
                      "liveness": {"path": "/healthz", "port": "admin"}}
    for name in ("imcallbackd", "imcallbackd-admin"):
        (port,) = MANIFEST["Service", name]["spec"]["ports"]
        assert port["targetPort"] in ports
    assert COMPOSE["services"]["receiver"]["ports"] == [f"443:${{CALLBACK_PORT:-{exposed[0]}}}",
                                                        f"127.0.0.1:{exposed[1]}:{exposed[1]}"]


def test_selectors_find_the_pods():
    labels = MANIFEST["StatefulSet", "imcallbackd"]["spec"]["template"]["metadata"]["labels"]
    selected = [MANIFEST["Service", name]["spec"]["selector"] for name in ("imcallbackd", "imcallbackd-admin")]
    selected += [MANIFEST[kind, "imcallbackd"]["spec"]["selector"]["matchLabels"]
                 for kind in ("StatefulSet", "PodDisruptionBudget")]
    assert all(each == labels for each in selected)
    assert ("Service", MANIFEST["StatefulSet", "imcallbackd"]["spec"]["serviceName"]) in MANIFEST


def test_mounted_volumes_and_secrets_are_declared():
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (DIRECTORY / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], volume
        for secret in service["secrets"]:
            assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]
    named = set(re.findall(r"/run/secrets/([\w.-]+)", CONFIG))
    assert named == set(COMPOSE["secrets"])
    claims = {claim["metadata"]["name"]
              for claim in MANIFEST["StatefulSet", "imcallbackd"]["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in RECEIVER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]} | claims


def test_services_have_the_names_that_the_others_know():
    """`deliver` and `forward` derive the same identity of an event without a time from their host name."""
    names = {name: OURS[name].get("hostname") for name in ("deliver", "forward")}
    assert names == {"deliver": "receiver", "forward": "receiver"}
    assert set(re.search(r"(?m)^host = (.*)$", CONFIG)[1].split()) == set(OURS)


def test_pods_do_not_wait_for_each_other():
    assert MANIFEST["StatefulSet", "imcallbackd"]["spec"]["podManagementPolicy"] == "Parallel"


def test_only_the_receiver_writes_the_database():
    writers = [name for name, service in COMPOSE["services"].items() if "database:/var/lib/imcallbackd" in service["volumes"]]
    assert writers == ["receiver"]


@pytest.mark.parametrize("service", ["receiver", "forward", "deliver"])
def test_command_and_health_check_are_commands_of_the_program(service):
    entry = [*re.findall(r'"([^"]+)"', re.search(r"(?m)^CMD (.*)$", CONTAINERFILE)[1])]
    check = [*re.findall(r'"([^"]+)"', re.search(r"(?m)^    CMD (.*)$", CONTAINERFILE)[1])]
    if service != "receiver":
        entry, check = OURS[service]["command"], OURS[service]["healthcheck"]["test"][1:]
        assert check[4:] == [service]
    assert entry == ["serve" if service == "receiver" else service, "-c", CONFIG_PATH]
    assert check[:4] == ["/usr/bin/imcallbackd", "health", "-c", CONFIG_PATH]
    assert RECEIVER["args"] == ["serve", "-c", CONFIG_PATH]


def test_build_gets_the_files_that_it_needs():
    """.dockerignore lets through what CMake and the scripts of the image read, and neither anything large nor a secret.
    The last line that matches a path decides."""
    lines = [line for line in (TOP / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    let_through = [line[1:] for line in lines if line.startswith("!")]
    directories = {str((DIRECTORY / secret["file"]).parent.relative_to(TOP)) for secret in COMPOSE["secrets"].values()}
    assert lines[0] == "*" and set(lines[1 + len(let_through):]) == directories
    assert directories <= {line.rstrip("/") for line in (TOP / ".gitignore").read_text().splitlines()}
    needed = set(re.findall(r"add_subdirectory\((\w+)\)", (TOP / "CMakeLists.txt").read_text())) - {"tests"}
    assert set(let_through) == needed | {".github/CHANGELOG.md", "CMakeLists.txt", "CMakePresets.json", "include"}
    for script in re.findall(r"conf/[\w/.-]+\.sh", CONTAINERFILE):
        assert (TOP / script).is_file()


def test_version_in_the_manifest_is_that_of_the_program():
    version = daemon.run(daemon.BINARY, "--version").stdout.split()[1]
    assert RECEIVER["image"].endswith(f"/imcallbackd:{version}")
