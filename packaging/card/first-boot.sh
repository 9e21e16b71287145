#!/bin/sh
# Makes a board of a machine that starts from its card for the first time: docs/boards.md.
#
# On the card's boot partition, in the folder "fimi":
#   wheels/*.whl          fimi as one file (pip wheel --no-deps .); for boards without the internet
#                         also all that it needs
#   bundles/NAME.bundle   credentials: of this board alone, or of all boards of the lab
#   boards.csv            lines "SERIAL,NAME"; without it, the name is that of the only bundle, and
#                         where there are several, the machine's host name
#   profiles/NAME.toml    the board's profile; profiles/default.toml for all others; may be missing
#   options               further options of "fimi agent install", as: --allow restart --allow update
#
# It may be run any number of times; once the agent is installed, it does nothing. Bundles, and
# profiles, in which the password of a plug may stand, are removed from the card in the end: FAT has no
# permissions. FIMI_ROOT: root of another system, for a trial.
set -eu

root=${FIMI_ROOT:-}
card=
for place in "$root/boot/firmware/fimi" "$root/boot/fimi"; do
  if [ -d "$place" ]; then card=$place; break; fi
done

say() { echo "fimi: $*"; }
end() { say "$*" >&2; exit 1; }

if [ -e "$root/etc/systemd/system/fimi-agent.service" ] && [ -e "$root/etc/fimi/agent.toml" ]; then
  say "the agent is installed already; for other credentials: fimi agent install --bundle FILE"
  # Left where the power went away just before that.
  [ -z "$card" ] || rm -f "$card"/bundles/*.bundle "$card"/profiles/*.toml
  exit 0
fi
[ -n "$card" ] || end "no folder 'fimi' on the boot partition ($root/boot/firmware)"

# Device tree (Raspberry Pi, Jetson), else the mainboard (x86).
serial=
for file in /proc/device-tree/serial-number /sys/class/dmi/id/product_serial; do
  if [ -r "$root$file" ]; then
    serial=$(tr -d '\0\r\n ' < "$root$file")
    break
  fi
done

name=
if [ -f "$card/boards.csv" ]; then
  name=$(awk -F, -v serial="$serial" '
    { gsub(/[ \t\r]/, "") }
    !/^#/ && serial != "" && tolower($1) == tolower(serial) { print $2; exit }' "$card/boards.csv")
  if [ -z "$name" ]; then
    # Where somebody who has the card in hand will see it; a card that goes through many boards
    # collects their numbers.
    unknown=$card/UNKNOWN-SERIAL.txt
    grep -qsx "${serial:-none}" "$unknown" || echo "${serial:-none}" >> "$unknown" || true
    sync
    end "serial number '${serial:-none}' is not in boards.csv: add the line '${serial:-none},NAME'"
  fi
else
  name=$(cat "$root/etc/hostname")
  set -- "$card"/bundles/*.bundle
  if [ $# -eq 1 ] && [ -f "$1" ]; then name=$(basename "$1" .bundle); fi
fi
case $name in
  '' | *[!A-Za-z0-9_.-]*) end "the name '$name' is no id of a device: letters, digits, '.', '_', '-'" ;;
esac

bundle=$card/bundles/$name.bundle
[ -f "$bundle" ] || end "$bundle is missing: fimi fleet enroll $name"
say "serial number ${serial:-none}: this is $name"
echo "$name" > "$root/etc/hostname"
[ -n "$root" ] || hostname "$name" || true

if [ -z "$root" ] && ! python3 -c 'import ensurepip' 2> /dev/null; then
  # An image without cloud-init; where there is no network yet, the next try does it.
  apt-get update && apt-get install -y python3-venv
fi

fimi=$root/opt/fimi/bin/fimi
if [ ! -x "$fimi" ]; then
  # By its file: no package index has fimi, or it is somebody else's.
  set -- "$card"/wheels/fimi_testbed-*.whl
  if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    end "$card/wheels must hold one wheel of fimi (fimi_testbed-*.whl). On the desk, in the folder of" \
      "its sources, 'pip wheel --no-deps --wheel-dir dist .' makes it: copy it there"
  fi
  wheel=$1
  set -- "$card"/wheels/*.whl
  python3 -m venv "$root/opt/fimi"
  if [ $# -gt 1 ]; then
    say "installs $(basename "$wheel") and what it needs from the card"
    "$root/opt/fimi/bin/pip" install --no-index --find-links "$card/wheels" "$wheel[update]"
  else
    say "installs $(basename "$wheel") from the card, what it needs from the package index"
    "$root/opt/fimi/bin/pip" install "$wheel[update]"
  fi
fi

profile=
for file in "$card/profiles/$name.toml" "$card/profiles/default.toml"; do
  if [ -f "$file" ]; then profile=$file; break; fi
done

kept=$(mktemp -d "$root/run/fimi-first-boot.XXXXXX")
trap 'rm -rf "$kept"' EXIT
(umask 077 && cp "$bundle" "$kept/board.bundle")
set -- --bundle "$kept/board.bundle"
[ -z "$profile" ] || set -- "$@" --host-profile "$profile"
if [ -f "$card/options" ]; then
  # Words between spaces, none of them expanded.
  set -f
  for word in $(tr '\r\n' '  ' < "$card/options"); do set -- "$@" "$word"; done
  set +f
fi
[ -z "$root" ] || set -- "$@" --root "$root" --no-start
"$fimi" agent install "$@"

rm -f "$card"/bundles/*.bundle "$card"/profiles/*.toml "$card/UNKNOWN-SERIAL.txt"
sync
say "$name is a board of the fleet; bundles and profiles are removed from the card"
