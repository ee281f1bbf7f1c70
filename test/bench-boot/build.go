package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// builder makes an initramfs.
type builder struct {
	name string
	file string // that it writes, on this side
	args []string
}

// The files in the working directory that are booted.
const (
	minimalFile = "windlass-minimal.img"
	hpcFile     = "windlass-hpc.img"
)

// The files in the builders' /out that are booted.
const (
	legacyFile  = "dracut-legacy.img"
	managerFile = "dracut-manager.img"
	liveFile    = "live.img"
)

// builders are those that are compared. dracut is told to make one for any machine, as for a boot server, and of its networks those that
// Enterprise Linux has used.
func builders(s setting) []builder {
	version := s.version()
	ours := func(preset, file string) builder {
		out := filepath.Join(s.work, file)
		return builder{"windlass, preset " + preset, out, []string{s.bin + "/windlass", "initramfs", "build", "--preset", preset, "--load", "fuse",
			"--kernel", s.kernel + "/vmlinuz", "--modules", s.kernel, "-o", out}}
	}
	theirs := func(name, file string, args ...string) builder {
		return builder{name, filepath.Join(s.builders, "out", file), append([]string{"chroot", s.builders}, args...)}
	}
	dracut := func(name, file, network string, more ...string) builder {
		args := append([]string{"dracut", "--force", "--no-hostonly", "--add", "livenet dmsquash-live " + network,
			"--include", "/out/overlay-hook.sh", "/lib/dracut/hooks/pre-mount/01-overlay-hook.sh", "--kver", version}, more...)
		return theirs(name, file, append(args, "/out/"+file)...)
	}
	return []builder{
		ours("minimal", minimalFile), ours("hpc", hpcFile),
		dracut("dracut, dhclient, zstd", legacyFile, "network-legacy", "--zstd"),
		dracut("dracut, dhclient, its own default: gzip", "dracut-gzip.img", "network-legacy"),
		dracut("dracut, NetworkManager, zstd", managerFile, "network-manager", "--zstd"),
		theirs("mkinitramfs with live-boot, zstd", liveFile, "mkinitramfs", "-o", "/out/"+liveFile, version),
	}
}

// version is that of the node's kernel.
func (s setting) version() string {
	found, err := filepath.Glob(filepath.Join(s.kernel, "lib/modules/*"))
	if err != nil || len(found) != 1 {
		return ""
	}
	return filepath.Base(found[0])
}

// build makes every initramfs as often as there are rounds, in turns, and prints the table.
func build(ctx context.Context, s setting) error {
	list := builders(s)
	if s.nobuild {
		return buildMissing(ctx, list)
	}
	took := make([][]time.Duration, len(list))
	for range s.rounds {
		for n, b := range list {
			begun := time.Now()
			if err := command(ctx, b.args...); err != nil {
				return err
			}
			took[n] = append(took[n], time.Since(begun))
		}
	}
	fmt.Fprintf(s.out, "\n| initramfs | seconds to build | ratio | MiB | ratio |\n|---|---|---|---|---|\n")
	base := len(list) - 1
	for n, b := range list {
		if b.file == filepath.Join(s.work, hpcFile) {
			base = n
		}
	}
	for n, b := range list {
		t := middle(took[n]).Seconds() / middle(took[base]).Seconds()
		z := mebibytes(b.file) / mebibytes(list[base].file)
		fmt.Fprintf(s.out, "| %s | %.1f | %.2f | %.1f | %.2f |\n", b.name, middle(took[n]).Seconds(), t, mebibytes(b.file), z)
	}
	return nil
}

// buildMissing makes those that are not there.
func buildMissing(ctx context.Context, list []builder) error {
	for _, b := range list {
		if _, err := os.Stat(b.file); err == nil {
			continue
		}
		if err := command(ctx, b.args...); err != nil {
			return err
		}
	}
	return nil
}

// mebibytes is the size of a file, -1 when there is none.
func mebibytes(file string) float64 {
	st, err := os.Stat(file)
	if err != nil {
		return -1
	}
	return float64(st.Size()) / (1 << 20)
}

// command runs a program; what it said is in the error.
func command(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out[max(0, len(out)-2000):])
	}
	return nil
}
