package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a node may take, on a machine on which much else runs.
const patience = 10 * time.Minute

// sample is one boot.
type sample struct {
	uptime  time.Duration // of the node's kernel when its systemd had started all
	powered time.Duration // since the emulator was started
	bytes   int64         // from the web server by then
	cpu     time.Duration // of this computer's processors that the emulator has used by then
	used    int64         // memory that was neither free nor could have been freed, in KiB
	text    string        // what the node told
}

// boot switches a machine on, waits until it is ready and switches it off; the caller has a slot.
func boot(ctx context.Context, s setting, w *web, sub subject, memory int) (got sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w.forget()
	console := filepath.Join(s.work, "console")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", arguments(s, w, sub, memory, console)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return got, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case text := <-w.ready:
		got, err = parse(text)
		got.powered, got.bytes, got.cpu = time.Since(begun), w.bytes.Load(), processor(cmd.Process.Pid)
		cancel()
		<-ended
	case <-ended:
		err = fmt.Errorf("not ready: %w: %s", errors.Join(ctx.Err(), errors.New("the machine has ended")), said.String())
	}
	s.keep(console, sub, got)
	return got, err
}

// arguments are those of the emulator.
func arguments(s setting, w *web, sub subject, memory int, console string) []string {
	line := "console=ttyS0 quiet loglevel=4 panic=-1 no_timer_check cryptomgr.notests mitigations=off bench=" + w.host() + " " + sub.words
	return []string{"-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(memory), "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "file:" + console, "-kernel", filepath.Join(s.kernel, "vmlinux"), "-initrd", sub.initrd, "-append", line,
		"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:12:34:56"}
}

// keep keeps what the console showed, when it was asked for.
func (s setting) keep(console string, sub subject, got sample) {
	if s.consoles == "" {
		return
	}
	name := strings.NewReplacer(", ", "-", " ", "-").Replace(sub.name)
	text, err := os.ReadFile(console)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.consoles, name), append(text, "\n"+got.text...), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-boot: the console is not kept:", err)
	}
}

// parse reads what test/bench-boot/ready has posted: the uptime in seconds, and /proc/meminfo.
func parse(text string) (got sample, err error) {
	kib := map[string]int64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		first, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if name == "uptime" {
			seconds, e := strconv.ParseFloat(first, 64)
			if e != nil {
				return got, fmt.Errorf("the node tells a strange uptime: %w", e)
			}
			got.uptime = time.Duration(seconds * float64(time.Second))
		}
		kib[name], _ = strconv.ParseInt(first, 10, 64) // those that are no numbers are not asked for
	}
	if kib["MemTotal"] == 0 || kib["MemAvailable"] == 0 {
		return got, fmt.Errorf("the node does not tell its memory: %s", text)
	}
	got.text = text
	got.used = kib["MemTotal"] - kib["MemAvailable"]
	return got, nil
}

// ticks is how many of the units of /proc/PID/stat make a second; see sysconf(3), _SC_CLK_TCK, which is this for every program.
const ticks = 100

// processor is the time of processors that a process has used; 0 when it has ended.
func processor(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name may have spaces
	f := strings.Fields(after)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64) // utime and stime, the 14th and 15th
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticks
}
