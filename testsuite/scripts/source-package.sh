#!/usr/bin/env bash
# Downloads a Debian source package with a package index of its own, since the machine's sources need not list any.
#
#   source-package.sh FOLDER PACKAGE [MIRROR SUITE]      prints the folder with the .orig.tar and .dsc files
set -euo pipefail
home=$1 package=$2
mirror=${3:-http://deb.debian.org/debian}
suite=${4:-$(. /etc/os-release; echo "$VERSION_CODENAME")}
mkdir -p "$home/lists/partial" "$home/$package"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$home/src.list"
apt=(-qq -o "Dir::Etc::sourcelist=$home/src.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$home/lists" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update
(cd "$home/$package" && apt-get "${apt[@]}" source --download-only "$package" >&2)
echo "$home/$package"
