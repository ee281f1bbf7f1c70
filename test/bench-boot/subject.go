package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// subject is a way to boot a node.
type subject struct {
	name   string
	initrd string
	words  string // on the kernel's command line
}

// subjects are the ways that are compared; all others are compared with the first.
func subjects(s setting, w *web) []subject {
	ours := func(name, initrd, definition, more string) subject {
		return subject{"windlass, " + name, filepath.Join(s.work, initrd), "windlass.container=" + w.url(definition) + more}
	}
	dracut := func(name, file string) subject {
		return subject{"dracut, " + name, filepath.Join(s.builders, "out", file), "root=live:" + w.url("image.squashfs") + " rd.live.image rd.live.overlay.overlayfs=1 rd.neednet=1 ip=dhcp"}
	}
	const handoff = " windlass.handoff=switch_root"
	return []subject{
		ours("hpc, squashfs, switch_root", hpcFile, "squashfs.json", handoff),
		ours("hpc, squashfs, container", hpcFile, "squashfs.json", ""),
		ours("minimal, squashfs, switch_root", minimalFile, "squashfs.json", handoff),
		ours("minimal, squashfs, container", minimalFile, "squashfs.json", ""),
		ours("hpc, chunkfs, switch_root", hpcFile, "chunkfs.json", handoff),
		ours("hpc, chunkfs, container", hpcFile, "chunkfs.json", ""),
		dracut("dhclient", legacyFile),
		dracut("NetworkManager", managerFile),
		{"live-boot", filepath.Join(s.builders, "out", liveFile), "boot=live ip=dhcp fetch=" + w.url("image.squashfs")},
	}
}

// publish gives the web server the image, as it is and as chunkfs, and the definitions that mount it.
func publish(ctx context.Context, s setting, w *web) error {
	if err := command(ctx, "cp", s.image, filepath.Join(w.dir, "image.squashfs")); err != nil {
		return err
	}
	if err := command(ctx, s.bin+"/windlass", "image", "build", s.tree, "-o", filepath.Join(w.dir, "store"), "--tag", "node"); err != nil {
		return err
	}
	lower := map[string]string{
		"squashfs.json": fmt.Sprintf(`{"kind":"uri","uri":{"uri":%q}}`, w.url("image.squashfs")),
		"chunkfs.json":  fmt.Sprintf(`{"kind":"chunkfs","chunkfs":{"image":"node","origins":[{"url":%q}]}}`, w.url("store")),
	}
	for name, l := range lower {
		text := fmt.Sprintf(`{"name":"node","command":"/sbin/init","systemd":true,"mount":{"kind":"overlay","overlay":{"lower":[%s],"upper":{"size":268435456}}}}`, l)
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
