#!/bin/sh
# release.sh [--dry-run] DIRECTORY
# Makes the files of a release from the last commit, in a new directory: the source archive, the Debian package, the
# notes and the checksums. First checks the version and the changelogs, and runs all tests. A dry run leaves out the
# tests. The script publishes nothing; it prints the commands that do.
set -eu
umask 022 # cpack writes the modes of its temporary files into the package
cd "$(dirname "$0")/.."

fail() {
    echo "release.sh: $*" >&2
    exit 1
}

dry_run=
if [ "${1:-}" = --dry-run ]; then
    dry_run=yes
    shift
fi
[ $# -eq 1 ] || { echo "usage: sh conf/release.sh [--dry-run] DIRECTORY" >&2; exit 2; }
[ ! -e "$1" ] || fail "$1 exists; name a new directory"

commit=$(git rev-parse HEAD)
version=$(sed -n 's/^project(imcallbackd VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
name=imcallbackd-$version
[ -z "$(git status --porcelain)" ] || fail "the tree has changes that are not committed; commit them first"
[ -z "$(git tag --list "v$version")" ] || fail "v$version: the tag exists; raise the version in CMakeLists.txt"
heading=$(grep -m 1 '^## \[[0-9]' .github/CHANGELOG.md || true)
date=${heading#"## [$version] - "}
[ "$date" != "$heading" ] ||
    fail ".github/CHANGELOG.md: the newest release is '$heading', but CMakeLists.txt has $version; add its section"
head -n 1 conf/debian/changelog | grep -q "^imcallbackd ($version-1) " ||
    fail "conf/debian/changelog: the first entry is not $version-1; add the entry"
packaged=$(sed -n 's/^ -- .*>  //p' conf/debian/changelog | head -n 1)
[ "$(date -u -d "$packaged" +%F)" = "$date" ] ||
    fail "conf/debian/changelog: the first entry is not of $date, the date in .github/CHANGELOG.md; correct one of them"

if [ -z "$dry_run" ]; then
    [ "$(git symbolic-ref --short -q HEAD)" = main ] || fail "HEAD is not the branch main; check it out"
    .ci/run
    [ "$(git rev-parse HEAD)" = "$commit" ] && [ -z "$(git status --porcelain)" ] ||
        fail "the tree has changed during the tests; start again"
fi
# The same commit makes the same package, whatever the environment says.
unset CFLAGS CPPFLAGS LDFLAGS CC DESTDIR SOURCE_DATE_EPOCH

mkdir "$1"
output=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
# Times, names and modes in the archive come from the commit.
git -c tar.umask=0022 archive --prefix="$name/" "$commit" | gzip -9n >"$output/$name.tar.gz"
tar -C "$work" -xf "$output/$name.tar.gz"
(
    cd "$work/$name"
    cmake --preset release >/dev/null
    cmake --build --preset release
    cd build/release
    cpack >/dev/null
    cp ./*.deb "$output/"
)
# The section of this version, without its heading.
sed -n "/^## \[$version\]/,/^## \[/{/^## \[/d;p}" .github/CHANGELOG.md >"$output/notes.md"
(cd "$output" && sha256sum -- *.tar.gz *.deb >SHA256SUMS)

cat <<END
$output has the files of $version. To release them:

git tag --sign v$version --message "imcallbackd $version" $commit
git push origin v$version
gpg --armor --detach-sign $output/SHA256SUMS

Then create the release of v$version at the code host, with these files and the text of notes.md.
END
