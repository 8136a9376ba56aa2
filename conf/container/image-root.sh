#!/bin/sh
# image-root.sh PROGRAM DIRECTORY: collects the root file system of the image. Containerfile runs this script in the
# stage that built the program.
set -eu
program=$1
root=$2
user=10001

mkdir -p "$root/etc/imcallbackd" "$root/etc/ssl/certs" "$root/usr/bin" "$root/var/lib/dpkg/status.d"
install -s -m 0755 "$program" "$root/usr/bin/imcallbackd"
cp conf/container/imcallbackd.conf "$root/etc/imcallbackd/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
install -D -m 0644 conf/debian/copyright "$root/usr/share/doc/imcallbackd/copyright"
echo "imcallbackd:x:$user:$user:Receiver of the callback of disbanded groups:/var/lib/imcallbackd:/nonexistent" \
    >"$root/etc/passwd"
echo "imcallbackd:x:$user:" >"$root/etc/group"
echo "hosts: files dns" >"$root/etc/nsswitch.conf"

# A new volume gets the owner and the mode of the directory at which it is mounted.
for name in imcallbackd imcallbackd-deliver imcallbackd-forward; do
    install -d -o "$user" -g "$user" -m 0750 "$root/var/lib/$name"
done

# Scanners for vulnerabilities find the packages in status.d, as in images without a package manager.
libraries=$(ldd "$program" | grep -o "/[^ ]*" | sort -u)
packages=ca-certificates
for library in $libraries; do
    cp -L --parents "$library" "$root"
    found=$(dpkg-query -S "*${library#/usr}") # an older release has the same file without /usr in front
    packages="$packages ${found%%:*}"
done
for package in $packages; do
    dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
    cp --parents "/usr/share/doc/$package/copyright" "$root"
done
