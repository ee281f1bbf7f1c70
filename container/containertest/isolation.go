package containertest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func testIsolation(t *testing.T, h Harness) {
	t.Run("environment", func(t *testing.T) { testEnvironment(t, h) })
	t.Run("files and signals", func(t *testing.T) { testInheritance(t, h) })
	t.Run("mounts", func(t *testing.T) { testMounts(t, h) })
	t.Run("binds", func(t *testing.T) { testBinds(t, h) })
	t.Run("net", func(t *testing.T) {
		f := NewFixture(t, h)
		_, log := f.Run(Shell("ip -o link; ip -o addr", namespaces("net")))
		if strings.Count(log, "link/") != 1 || !strings.Contains(log, "127.0.0.1") || !strings.Contains(log, "LOOPBACK,UP") {
			t.Errorf("network: %s", log)
		}
		_, log = f.Run(Shell("readlink /proc/self/ns/net"))
		own, err := os.Readlink("/proc/self/ns/net")
		must(t, err)
		if strings.TrimSpace(log) != own {
			t.Errorf("without net it has the network %s, the node %s", log, own)
		}
	})
	t.Run("time", func(t *testing.T) {
		f := NewFixture(t, h)
		_, log := f.Run(Shell("cut -d. -f1 /proc/uptime", namespaces("time")))
		if up, err := strconv.Atoi(strings.TrimSpace(log)); err != nil || up > 5 {
			t.Errorf("uptime %q", log)
		}
	})
	t.Run("user", func(t *testing.T) { testUserNamespace(t, h) })
	t.Run("user on overlay", func(t *testing.T) { testUserOnOverlay(t, h) })
	t.Run("devices", func(t *testing.T) {
		f := NewFixture(t, h)
		must(t, unix.Mknod(filepath.Join(f.Root, "work/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		_, log := f.Run(Shell(`echo x > /work/null; mknod /dev/disk b 254 0; echo y > /dev/null && head -c 3 /dev/zero | od -An -c; [ -c /dev/console ] && [ -L /dev/ptmx ] && echo console`))
		wantContains(t, "log", log, "/work/null: Permission denied", "/dev/disk: Operation not permitted", `\0  \0  \0`, "console")
	})
}

func testEnvironment(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	named := func(s *models.Container) { s.Name = "named" }
	_, log := f.Run(Shell("env; hostname; pwd; id -u; id -g; id -G; echo pid $$", env("EXTRA", "a b\nc"), user("user:lp"), workDir("/work"), named))
	wantContains(t, "log", log, "container=windlass\n", "container_uuid=", "PATH=/usr/local/sbin:", "TERM=", "EXTRA=a b\nc\n", "\nnamed\n/work\n1000\n7\n7\npid 1\n")
	_, log = f.Run(Shell("hostname", named, func(s *models.Container) { s.Hostname = "chosen" }))
	if log != "chosen\n" {
		t.Errorf("host name %q", log)
	}
	id, _ := f.Start(Shell("hostname; cat /run/host/container-manager /run/host/container-uuid; echo $container_uuid"))
	f.Exit(id)
	lines := strings.Split(f.Log(id), "\n")
	if lines[0] != "windlass-"+strconv.Itoa(int(id)) || lines[1] != "windlass" || strings.ReplaceAll(lines[2], "-", "") != lines[3] || len(lines[3]) != 32 {
		t.Errorf("container interface: %q", lines)
	}
	if own, _ := os.Hostname(); own == "chosen" {
		t.Error("the node's host name was set")
	}
}

// testInheritance sees that a container gets nothing of the daemon: files, ignored or blocked signals, capabilities, groups.
func testInheritance(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	leak, err := os.Open("/etc/passwd")
	must(t, err)
	defer leak.Close()
	_, err = unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0) // a careless library
	must(t, err)
	id, _ := f.Start(Spec("/bin/sleep 1000"))
	inside := `echo $(ls /proc/1/fd); cat /proc/1/status /proc/1/cgroup; ulimit -n; readlink /proc/1/fd/0`
	log, _, _ := f.ExecOutput(id, &models.ExecSpec{Command: []string{"sh", "-c", inside}}, "")
	wantContains(t, "of its first process", log, "0 1 2\n", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "Umask:\t0022", "\n0::/", "\n1024\n", "/dev/pts/0")
	caps := ""
	for _, l := range strings.Split(log, "\n") {
		if v, ok := strings.CutPrefix(l, "CapBnd:\t"); ok {
			caps = v
		}
	}
	set, err := strconv.ParseUint(caps, 16, 64)
	must(t, err)
	for name, c := range map[string]uint{"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_TIME": 25, "MKNOD": 27, "NET_ADMIN": 12, "SYSLOG": 34, "BPF": 39} {
		if set&(1<<c) != 0 {
			t.Errorf("it has CAP_%s", name)
		}
	}
	_, log = f.Run(Shell(`grep -E "^Cap(Eff|Prm|Bnd)" /proc/1/status`, user("user")))
	wantContains(t, "log of a user", log, "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000")
}

func testMounts(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	before := mounts(t, f.Root)
	_, log := f.Run(Shell(`cat /proc/mounts; ls /; echo 1 > /proc/sys/kernel/hostname; echo b > /proc/sysrq-trigger; mkdir /sys/fs/cgroup/mine && echo delegated; echo x > /sys/kernel/mm/ksm/run; wc -c < /proc/kallsyms; cd ..; cd ../..; pwd; ls -d /host* 2>&1; mount -t tmpfs x /work && echo mounted`))
	wantContains(t, "log", log, "create /proc/sysrq-trigger: ", "hostname: Read-only file system", "ksm/run: Read-only file system", "\n0\n", "delegated", "mounted",
		" /sys/fs/cgroup cgroup2 rw", " /run tmpfs rw", " /tmp tmpfs rw", " /dev/shm tmpfs", " /dev/mqueue mqueue")
	for _, line := range strings.Split(before, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] == "/" {
			continue
		}
		if strings.HasPrefix(fields[1], "/sys/fs/cgroup/") && strings.Contains(log, " "+fields[1]+" ") {
			t.Errorf("the node's mount %s is seen inside", fields[1])
		}
	}
	if after := mounts(t, f.Root); after != before {
		t.Errorf("the node's mounts changed to\n%s", after)
	}
	if _, err := os.Stat(filepath.Join(f.Root, "dev/null")); err == nil {
		t.Error("the image was written to")
	}
}

func testBinds(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	src := t.TempDir()
	must(t, os.Chmod(src, 0o755))
	must(t, os.WriteFile(filepath.Join(src, "file"), []byte("content\n"), 0o644))
	must(t, os.Mkdir(filepath.Join(src, "sub"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(src, "sub"), "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(src, "sub"), 0)) })
	must(t, os.WriteFile(filepath.Join(src, "sub/inner"), nil, 0o644))
	deep := func(s *models.Container) { s.Binds[len(s.Binds)-1].Recursive = ptr(true) }
	_, log := f.Run(Shell(`touch /rw/made && echo rw; touch /a/b/ro/x; touch /a/b/ro/sub/x; cat /etc/one; echo x > /etc/one; ls /flat/sub /a/b/ro/sub /rw /run/inside`,
		bind(src, "/rw", false), bind(src, "/a/b/ro", true), deep, bind(filepath.Join(src, "file"), "/etc/one", true), bind(src, "/flat", true), bind(src, "/run/inside", true)))
	wantContains(t, "log", log, "rw\n", "/a/b/ro/x: Read-only file system", "/a/b/ro/sub/x: Read-only file system", "content\n", "/etc/one: Read-only file system",
		"/flat/sub:\n\n", "/a/b/ro/sub:\ninner\n", "made")
	if err := f.startError(Shell("true", bind(src+"/nonesuch", "/x", true))); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "there is no "+src+"/nonesuch on this node") {
		t.Errorf("missing source: %v", err)
	}
	if err := f.startError(Shell("true", bind(src, "/etc/passwd", true))); !fault.Is(err, fault.Invalid) {
		t.Errorf("directory onto a file: %v", err)
	}
	// A target that the image makes a link is followed inside the container at most.
	must(t, os.Symlink(src, filepath.Join(f.Root, "trap")))
	if err := f.startError(Shell("true", bind("/usr", "/trap/x", true))); err == nil {
		t.Log("followed inside")
	}
	if _, err := os.Stat(filepath.Join(src, "x")); err == nil {
		t.Error("a link in the image led to the node")
	}
	t.Run("read-only root", func(t *testing.T) { testReadOnlyRoot(t, h) })
}

// testReadOnlyRoot has a root that lacks what must be there.
func testReadOnlyRoot(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	must(t, os.Remove(filepath.Join(f.Root, "tmp")))
	root := t.TempDir()
	must(t, unix.Mount(f.Root, root, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(root, 0)) })
	must(t, unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err := f.R.Start(f.Ctx, f.ID(), Spec("/bin/true"), root)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "/tmp") || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v", err)
	}
	must(t, os.Mkdir(filepath.Join(f.Root, "tmp"), 0o755))
	id := f.ID()
	_, err = f.R.Start(f.Ctx, id, Shell("touch /x; touch /tmp/x && echo fine"), root)
	must(t, err)
	f.Exit(id)
	wantContains(t, "log", f.Log(id), "/x: Read-only file system", "fine")
}

func testUserNamespace(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	id, st := f.Start(Shell(`echo $(id -u) $(cat /proc/self/uid_map); touch /work/made; stat -c %u /bin/sh /dev/console /run /dev/null; echo x >/dev/null && echo dev; mkdir /sys/fs/cgroup/a && echo delegated; mount -t tmpfs x /work && echo mounted; echo up; sleep 1000`, namespaces("user")))
	f.UntilLogged(id, "up")
	log := f.Log(id)
	wantContains(t, "log", log, "0 0 ", " 65536\n", "0\n0\n0\n0\n", "dev\n", "delegated\n", "mounted\n")
	status, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status")
	must(t, err)
	if strings.Contains(string(status), "\nUid:\t0\t") {
		t.Error("on the node it is root")
	}
	var made unix.Stat_t
	must(t, unix.Stat(filepath.Join(f.Root, "work/made"), &made))
	if made.Uid != 0 {
		t.Errorf("what root inside makes belongs to %d in the image", made.Uid)
	}
	_, log = f.Run(Shell("id -u; touch /tmp/x && stat -c %u /tmp/x", namespaces("user", "net"), user("user")))
	if log != "1000\n1000\n" {
		t.Errorf("a user inside: %q", log)
	}
}

// testUserOnOverlay sees either success or an answer that names the file system.
func testUserOnOverlay(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	root, upper := t.TempDir(), t.TempDir()
	for _, d := range []string{"u", "w"} {
		must(t, os.Mkdir(filepath.Join(upper, d), 0o755))
	}
	must(t, unix.Mount("overlay", root, "overlay", 0, "lowerdir="+f.Root+",upperdir="+upper+"/u,workdir="+upper+"/w"))
	t.Cleanup(func() { must(t, unix.Unmount(root, 0)) })
	id := f.ID()
	_, err := f.R.Start(f.Ctx, id, Spec("/bin/true", namespaces("user")), root)
	switch {
	case err == nil:
		wantExit(t, f.Exit(id), 0, "")
	case !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "overlay") || fault.HintOf(err) == "":
		t.Errorf("got %v", err)
	}
	must(t, f.R.Remove(f.Ctx, id))
	id = f.ID()
	_, err = f.R.Start(f.Ctx, id, Shell("touch /made && echo made"), root)
	must(t, err)
	f.Exit(id)
	if log := f.Log(id); log != "made\n" {
		t.Errorf("on an overlay: %q", log)
	}
}

func testLimits(t *testing.T, h Harness) {
	limited := func(l models.ContainerLimits) Option { return func(s *models.Container) { s.Limits = &l } }
	t.Run("memory", func(t *testing.T) {
		f := NewFixture(t, h)
		st, _ := f.Run(Shell("exec dd if=/dev/zero of=/dev/null bs=200M count=1", limited(models.ContainerLimits{Memory: 32 << 20})))
		wantExit(t, st, 137, "SIGKILL")
		if !st.OOMKilled {
			t.Errorf("not known as killed for memory: %+v", st)
		}
		if st, _ = f.Run(Shell("exec dd if=/dev/zero of=/dev/null bs=1M count=1", limited(models.ContainerLimits{Memory: 32 << 20}))); st.OOMKilled {
			t.Errorf("known as killed for memory: %+v", st)
		}
	})
	t.Run("pids", func(t *testing.T) {
		f := NewFixture(t, h)
		_, log := f.Run(Shell(`for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all`, limited(models.ContainerLimits{Pids: 5})))
		wantContains(t, "log", log, "can't fork")
	})
	t.Run("pids of exec too", func(t *testing.T) {
		f := NewFixture(t, h)
		id, _ := f.Start(Shell(`sleep 1000 & sleep 1000 & echo up; sleep 1000`, limited(models.ContainerLimits{Pids: 5, CPU: 0.5})))
		f.UntilLogged(id, "up")
		_, errs, _ := f.ExecOutput(id, &models.ExecSpec{Command: []string{"sh", "-c", "sleep 1 & sleep 1 & sleep 1 & true"}}, "")
		wantContains(t, "stderr", errs, "can't fork")
	})
	t.Run("cpu", func(t *testing.T) {
		f := NewFixture(t, h)
		id, st := f.Start(Shell(`echo up; while true; do :; done`, limited(models.ContainerLimits{CPU: 0.1})))
		f.UntilLogged(id, "up")
		if used := cpuUse(t, f, id, st); used > 0.3 {
			t.Errorf("it uses %.2f processors of 0.1", used)
		}
	})
}

// cpuUse measures, by the container's own clock ticks, what it uses in half a second.
func cpuUse(t *testing.T, f *Fixture, id container.ID, st container.Status) float64 {
	t.Helper()
	ticks := func() int {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/stat")
		must(t, err)
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')'):]))
		u, err := strconv.Atoi(fields[12])
		must(t, err)
		s, err := strconv.Atoi(fields[13])
		must(t, err)
		return u + s
	}
	before := ticks()
	out, _, _ := f.ExecOutput(id, &models.ExecSpec{Command: []string{"sh", "-c", "read a b < /proc/uptime; sleep 0.5; read c d < /proc/uptime; echo $a $c"}}, "")
	used := float64(ticks()-before) / 100
	fields := strings.Fields(out)
	from, err := strconv.ParseFloat(fields[0], 64)
	must(t, err)
	to, err := strconv.ParseFloat(fields[1], 64)
	must(t, err)
	return used / (to - from)
}
