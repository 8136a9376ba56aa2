"""Checks what `cmake --install`, `cpack` and conf/release.sh produce, from paths and modes to hardening and completions."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "e2e"))

from processes import check_run  # noqa: E402

run = functools.partial(check_run, timeout=1800)
BUILD = TOP / "build" / "package"


def pages():
    return sorted(path for section in "578" for path in (TOP / "src").rglob(f"*.{section}"))


@pytest.fixture(scope="module")
def build():
    run("cmake", "--preset", "release", "-B", BUILD, cwd=TOP)
    run("cmake", "--build", BUILD, cwd=TOP)
    return BUILD


@pytest.fixture(scope="module")
def package(build):
    for path in build.glob("*.deb"):
        path.unlink()
    # The modes in the package must not depend on the builder's umask.
    run("sh", "-c", "umask 077; cpack", cwd=build)
    (path,) = build.glob("*.deb")
    return path


def test_package_contains_exactly_these_files(package):
    files = {}
    for line in run("dpkg-deb", "-c", package).splitlines():
        mode, owner, _, _, _, name = line.split(maxsplit=5)
        assert owner == "root/root", line
        program = "/bin/" in name or name.endswith(".sh")
        assert mode == ("drwxr-xr-x" if name.endswith("/") else "-rwxr-xr-x" if program else "-rw-r--r--"), line
        if not name.endswith("/"):
            files[name.removeprefix(".")] = mode
    assert set(files) == {
        "/etc/imcallbackd/imcallbackd.conf", "/usr/bin/imcallbackd",
        *(f"/usr/lib/systemd/system/{path.name}" for suffix in ("service", "socket")
          for path in (TOP / "systemd").glob(f"*.{suffix}")),
        "/usr/lib/sysusers.d/imcallbackd.conf", "/usr/lib/tmpfiles.d/imcallbackd.conf",
        "/usr/share/bash-completion/completions/imcallbackd", "/usr/share/zsh/vendor-completions/_imcallbackd",
        "/usr/share/doc/imcallbackd/changelog.Debian.gz", "/usr/share/doc/imcallbackd/changelog.gz",
        "/usr/share/doc/imcallbackd/copyright",
        *(f"/usr/share/doc/imcallbackd/examples/{path.name}" for path in (TOP / "conf/proxy").iterdir()),
        *(f"/usr/share/doc/imcallbackd/examples/{name}" for name in ("handler.py", "prometheus-alerts.yml",
                                                                     "grafana-dashboard.json")),
        "/usr/share/lintian/overrides/imcallbackd", "/usr/share/imcallbackd/certbot-hook.sh",
        *(f"/usr/share/man/man{path.suffix[1:]}/{path.name}.gz" for path in pages())}


def test_control_files_name_dependencies_and_version(package, tmp_path):
    def field(name):
        return run("dpkg-deb", "-f", package, name).strip()

    depends = {re.split("[ (|]", word.strip())[0] for word in field("Depends").split(",")}
    assert depends >= {"systemd", "libc6", "libcjson1", "libsqlite3-0", "libsystemd0"}
    assert {name.rstrip("0123456789t") for name in depends} >= {"libgnutls", "libinih", "libmicrohttpd", "libpq",
                                                               "libssl"}
    run("dpkg-deb", "-e", package, tmp_path)
    assert (tmp_path / "conffiles").read_text() == "/etc/imcallbackd/imcallbackd.conf\n"
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", tmp_path / script)
    assert field("Version") == f"{version()}-1"
    assert (TOP / "conf/debian/changelog").read_text().startswith(f"imcallbackd ({version()}-1) ")


def test_binary_is_hardened(package, tmp_path):
    run("dpkg-deb", "-x", package, tmp_path)
    binary = tmp_path / "usr/bin/imcallbackd"
    assert re.search(r"Type: +DYN \(Position-Independent Executable", run("readelf", "-h", binary))
    assert "GNU_RELRO" in run("readelf", "-lW", binary)
    assert "NOW" in run("readelf", "-dW", binary)
    symbols = run("readelf", "-W", "--dyn-syms", binary)
    assert "__stack_chk_fail" in symbols and re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail@", ""))


def test_lintian_finds_nothing(package):
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    said = run("lintian", "--allow-root", "--fail-on", "none", package)
    found = re.findall(r"(?m)^[EW]: imcallbackd: (\S+)", said)
    assert found == ([] if pages() else ["no-manual-page"]), said


def test_installs_below_another_prefix(build, tmp_path):
    """The paths in the units follow the prefix, and a second installation keeps the configuration."""
    other = tmp_path / "build"
    run("cmake", "--preset", "release", "-B", other, "-DCMAKE_INSTALL_PREFIX=/usr/local",
        "-DSYSTEMD_UNIT_DIR=/srv/units", cwd=TOP)
    shutil.copy(build / "imcallbackd", other)  # saves the time of a second build
    run("cmake", "--build", other, "--target", "conf/all")  # compresses the manual pages
    root = tmp_path / "root"
    for _ in range(2):
        run("cmake", "-DCMAKE_INSTALL_LOCAL_ONLY=1", "-P", other / "systemd/cmake_install.cmake",
            env=os.environ | {"DESTDIR": str(root)})
        run("cmake", "-DCMAKE_INSTALL_LOCAL_ONLY=1", "-P", other / "conf/cmake_install.cmake",
            env=os.environ | {"DESTDIR": str(root)})
        config = root / "usr/local/etc/imcallbackd/imcallbackd.conf"
        assert config.exists()
        config.write_text("edited\n")
    assert config.read_text() == "edited\n"
    service = (root / "srv/units/imcallbackd.service").read_text()
    assert "ExecStart=/usr/local/bin/imcallbackd serve -c /usr/local/etc/imcallbackd/imcallbackd.conf\n" in service
    assert "/usr/bin" not in service and " /etc/" not in service


@pytest.mark.parametrize("words, expected", [
    ("", {"serve", "check", "sign", "certificate", "--help", "--version"}), ("se", {"serve"}),
    ("sign --", {"--config", "--app", "--time", "--help"}), ("certificate --h", {"--host", "--help"}),
    ("serve -c /etc/hostn", {"/etc/hostname"})])
def test_bash_completes(build, words, expected):
    script = ('source conf/completion/imcallbackd.bash; COMP_WORDS=(imcallbackd "$@"); COMP_CWORD=$#; '
              '_imcallbackd imcallbackd; printf "%s\\n" "${COMPREPLY[@]}"')
    last = [""] if words == "" else []
    shown = run("bash", "-c", script, "bash", *words.split(), *last, cwd=TOP,
                env=os.environ | {"PATH": f"{build}:{os.environ['PATH']}"})
    found = set(shown.split())
    assert found >= expected
    assert all(word.startswith(words.split(" ")[-1]) for word in found)


# Releases

@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Returns a repository with one commit, which holds the files of this tree."""
    if not (TOP / ".git").exists():
        pytest.skip("this tree is not a git repository")
    directory = tmp_path_factory.mktemp("elsewhere") / "imcallbackd"
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=TOP).split("\0")
    for name in filter(None, names):
        if (TOP / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, directory / name)
    run("git", "init", "-q", directory)
    commit(directory)
    return directory


def commit(repository):
    run("git", "add", "--all", cwd=repository)
    run("git", "-c", "user.name=test", "-c", "user.email=test@invalid", "commit", "-q", "--allow-empty", "-m", "test",
        cwd=repository)


def version():
    return re.search(r"(?m)^project\(imcallbackd VERSION (\S+)", (TOP / "CMakeLists.txt").read_text())[1]


def test_dry_run_of_a_release_makes_its_files_and_the_same_package(build, package, repository, tmp_path):
    """The directories, the umask, the time zone and the language of the two builds differ."""
    run("sh", "-c", 'umask 022; cpack -B "$1"', "sh", tmp_path, cwd=build)
    output = tmp_path / "release"
    shown = run("sh", "-c", 'umask 027; exec sh conf/release.sh --dry-run "$1"', "sh", output, cwd=repository,
                env=os.environ | {"TZ": "Asia/Tokyo", "LC_ALL": "C"})
    archive = f"imcallbackd-{version()}.tar.gz"
    assert {path.name for path in output.iterdir()} == {archive, package.name, "SHA256SUMS", "notes.md"}
    assert run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=output).count(": OK\n") == 2
    assert (output / package.name).read_bytes() == (tmp_path / package.name).read_bytes()
    tracked = run("git", "ls-files", cwd=repository).split("\n")
    listed = run("tar", "-tzf", output / archive).split("\n")
    assert [name.partition("/")[2] for name in listed if name and not name.endswith("/")] == tracked[:-1]
    assert "### Added" in (output / "notes.md").read_text()
    head = run("git", "rev-parse", "HEAD", cwd=repository).strip()
    assert re.search(rf"(?m)^git tag --sign v{version()} .* {head}$", shown)


@pytest.mark.parametrize("change, words", [
    ("mkdir ../release", "release exists; name a new directory"),
    ("echo more >>README.md", "the tree has changes that are not committed"),
    (f"git tag v{version()}", f"v{version()}: the tag exists"),
    ("sed -i 's/^## .[0-9].*/## [0.9.0] - 2026-11-28/' .github/CHANGELOG.md", "the newest release is '## [0.9.0]"),
    ("sed -i '1s/(.*-1)/(0.9.0-1)/' conf/debian/changelog", f"the first entry is not {version()}-1"),
    ("sed -i 's/^ -- \\(.*\\)  .*/ -- \\1  Sat, 01 Jan 2000 00:00:00 +0000/' conf/debian/changelog",
     "the first entry is not of 2"),
])
def test_release_refuses_what_is_not_ready(repository, tmp_path, change, words):
    copy = tmp_path / "copy"
    run("git", "clone", "-q", repository, copy)
    run("sh", "-c", change, cwd=copy)
    if "not committed" not in words:
        commit(copy)
    made = (tmp_path / "release").exists()
    done = subprocess.run(["sh", "conf/release.sh", "--dry-run", str(tmp_path / "release")], cwd=copy,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and words in done.stderr, done
    assert (tmp_path / "release").exists() == made  # a second try needs no new name
