# Makes the archive of a release: sourced by release.sh. The same files give the same bytes: sorted, with the time of the commit,
# nobody's user and no name in gzip's header.

# The licences of the crates that are linked into the program, each text once.
third_party() { # third_party HOST
  local name version licence site folder text sum known
  declare -A seen=()
  cat <<'END'
calque is linked with the Rust standard library (MIT OR Apache-2.0, see LICENSE-MIT and LICENSE-APACHE for the texts;
copyright The Rust Project contributors) and with these crates, each of which is to be had with its source from
https://crates.io/crates/NAME/VERSION:
END
  while IFS='|' read -r name licence site; do
    version=${name#* v}
    version=${version%% *}
    name=${name%% *}
    printf '\n==== %s %s: %s\n' "$name" "$version" "$licence"
    known=
    for folder in "$cargo_home"/registry/src/*/"$name-$version"; do
      for text in "$folder"/{LICEN[CS]E,COPYING,COPYRIGHT,NOTICE,UNLICENSE}*; do
        [ -f "$text" ] || continue
        known=1
        sum=$(sha256sum <"$text")
        if [ -n "${seen[$sum]:-}" ]; then
          printf -- '-- %s: the same as %s\n' "${text##*/}" "${seen[$sum]}"
        else
          seen[$sum]="${text##*/} of $name $version"
          printf -- '-- %s\n\n' "${text##*/}"
          cat "$text"
        fi
      done
      break
    done
    [ -n "$known" ] || printf 'No text in the package, which names %s; see %s\n' "$(authors "$folder")" "$site"
  done < <(cargo tree --locked -p calque -e normal --target "$(triple_of "$1")" --prefix none --no-dedupe \
    --format '{p}|{l}|{r}' | grep -v '(/' | sort -u)
}

# Whom a package's manifest names, in one line.
authors() { # authors FOLDER
  local names
  names=$(sed -n '/^authors = \[/,/\]/p' "$1/Cargo.toml" | tr -d '\n' | sed 's/^authors = \[ *//; s/,* *\].*//; s/  */ /g')
  echo "${names:-nobody}"
}

# Packs a program and sets $archive.
pack() { # pack HOST PROGRAM
  local version epoch name root
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
  epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
  name=calque-$version-$1
  root=$work/$name
  archive=$out/$name.tar.gz
  rm -rf "$root"
  mkdir -p "$root"
  cp "$2" "$root/calque"
  # All pages: README leads to most of them.
  cp README.md ARCHITECTURE.md LICENSE-MIT LICENSE-APACHE "$root"
  cp -r docs "$root"
  [[ $1 != macos-* ]] || cp calque/macos/entitlements.plist "$root"
  third_party "$1" >"$root/THIRD-PARTY-LICENSES.txt"
  tar -C "$work" --sort=name --format=ustar --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
    --mode=u+rwX,go+rX,go-w -cf - "$name" | gzip -9n >"$archive"
  rm -rf "$root"
}
