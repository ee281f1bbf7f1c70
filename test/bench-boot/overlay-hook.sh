#!/bin/sh
# For the initramfs of dracut 059, which mounts an overlay on directories that nobody has made yet when systemd runs in it. Later ones make
# them at this place, before the root is mounted.
mkdir -p /run/overlayfs /run/ovlwork
