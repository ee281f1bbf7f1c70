package fusefs_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/chunkfs/fusefs"
)

// TestErrorIsNotSticky reads while the device fails, and again.
func TestErrorIsNotSticky(t *testing.T) {
	_, img, dev := sample(t)
	path := filepath.Join(mount(t, fusefs.New(img, dev, fusefs.Options{})), "plain-100000")
	for range 3 {
		dev.set(errDevice, nil)
		if _, err := os.ReadFile(path); !errors.Is(err, unix.EIO) {
			t.Errorf("while the device fails: %v", err)
		}
		dev.set(nil, nil)
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(b, erofstest.Random(100_000)) {
			t.Errorf("afterwards: %d bytes, %v", len(b), err)
		}
		if err := unix.Fadvise(open(t, path), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
	}
}

// TestShortDevice has the device end too early, in memory and in the file: that is an error and not a piece of zeros.
func TestShortDevice(t *testing.T) {
	for _, kind := range []string{"memory", "file"} {
		_, img, dev := sample(t)
		dev.data = dev.data[:len(dev.data)/2]
		if kind == "file" {
			dev.inFile(t)
			if err := dev.file.Truncate(0); err != nil {
				t.Fatal(err)
			}
		}
		root := mount(t, fusefs.New(img, dev, fusefs.Options{}))
		if _, err := os.ReadFile(filepath.Join(root, "xattr-2")); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func open(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// TestSignal sends signals to a reader that waits: one that it has a handler for changes nothing.
func TestSignal(t *testing.T) {
	_, img, dev := sample(t)
	fd := open(t, filepath.Join(mount(t, fusefs.New(img, dev, fusefs.Options{})), "plain-100000"))
	wait := make(chan struct{})
	dev.set(nil, wait)
	tid, result := make(chan int), make(chan error)
	b := make([]byte, 100_000)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		n, err := unix.Pread(fd, b, 0)
		if err == nil && n != len(b) {
			err = errors.New("a short read")
		}
		result <- err
	}()
	reader := <-tid
	ctx := <-dev.waiting
	for range 5 {
		if err := unix.Tgkill(os.Getpid(), reader, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ctx.Done():
		t.Error("the read was given up")
	case <-time.After(300 * time.Millisecond): // long enough for an interrupt to come and be looked at
	}
	dev.set(nil, nil)
	close(wait)
	if err := <-result; err != nil || !bytes.Equal(b, erofstest.Random(100_000)) {
		t.Errorf("the reader got %v", err)
	}
}

// TestKill ends a reader that waits for the device, which goes on waiting for others.
func TestKill(t *testing.T) {
	_, img, dev := sample(t)
	path := filepath.Join(mount(t, fusefs.New(img, dev, fusefs.Options{})), "plain-100000")
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		wait := make(chan struct{})
		dev.set(nil, wait)
		cmd := exec.CommandContext(t.Context(), "dd", "if="+path, "iflag=direct", "bs=4096", "count=1", "status=none")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ctx := <-dev.waiting
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "signal") {
				t.Errorf("%v: the reader ended with %v", signal, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%v: the reader has not ended", signal)
		}
		if ctx.Err() == nil {
			t.Errorf("%v: the device was not told", signal)
		}
		dev.set(nil, nil)
		close(wait)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, erofstest.Random(100_000)) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestReadOnly calls everything that would change something, through the kernel.
func TestReadOnly(t *testing.T) {
	_, img, dev := sample(t)
	root := mount(t, fusefs.New(img, dev, fusefs.Options{}))
	at := func(name string) string { return filepath.Join(root, name) }
	file, when := at("plain-4096"), []unix.Timespec{{Sec: 1}, {Sec: 1}}
	for name, call := range map[string]func() error{
		"open for writing": func() error { _, err := unix.Open(file, unix.O_WRONLY, 0); return err },
		"open for both":    func() error { _, err := unix.Open(file, unix.O_RDWR, 0); return err },
		"truncating open":  func() error { _, err := unix.Open(file, unix.O_WRONLY|unix.O_TRUNC, 0); return err },
		"create":           func() error { _, err := unix.Open(at("new"), unix.O_CREAT|unix.O_WRONLY, 0o600); return err },
		"tmpfile":          func() error { _, err := unix.Open(root, unix.O_TMPFILE|unix.O_RDWR, 0o600); return err },
		"truncate":         func() error { return unix.Truncate(file, 1) },
		"mkdir":            func() error { return unix.Mkdir(at("new"), 0o700) },
		"mknod":            func() error { return unix.Mknod(at("new"), unix.S_IFIFO, 0) },
		"symlink":          func() error { return unix.Symlink("x", at("new")) },
		"link":             func() error { return unix.Link(file, at("new")) },
		"unlink":           func() error { return unix.Unlink(file) },
		"rmdir":            func() error { return unix.Rmdir(at("dir-empty")) },
		"rename":           func() error { return unix.Rename(file, at("new")) },
		"chmod":            func() error { return unix.Chmod(file, 0o600) },
		"chown":            func() error { return unix.Lchown(file, 1, 1) },
		"utimes":           func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, file, when, 0) },
		"setxattr":         func() error { return unix.Setxattr(file, "user.a", []byte("b"), 0) },
		"removexattr":      func() error { return unix.Removexattr(at("xattr-1"), "user.mine") },
		"access":           func() error { return unix.Access(file, unix.W_OK) },
	} {
		if err := call(); err != unix.EROFS {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
}

// TestNames looks for names that are odd.
func TestNames(t *testing.T) {
	_, img, dev := sample(t)
	root := mount(t, fusefs.New(img, dev, fusefs.Options{}))
	long := strings.Repeat("n", 255)
	for name, want := range map[string]error{
		"": nil, ".": nil, "..": nil, long: nil, "bad\xff\xfeutf8\n\x01": nil, "deep/.": nil, "dir-empty/..": nil, "acl-dir/../empty": nil,
		"missing": unix.ENOENT, "empty/x": unix.ENOTDIR, "empty/.": unix.ENOTDIR, "fifo/x": unix.ENOTDIR, "dir-empty/x": unix.ENOENT,
		long + "n": unix.ENAMETOOLONG, strings.Repeat("a/", 2100): unix.ENAMETOOLONG, "EMPTY": unix.ENOENT, "empty ": unix.ENOENT,
		"symlink-1/x": unix.ENOENT, "\xff": unix.ENOENT,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(root+"/"+name, &st); !errors.Is(err, want) && (err != nil || want != nil) {
			t.Errorf("%.40q: %v, want %v", name, err, want)
		}
	}
}

// TestRaw calls the file system without a kernel, with node ids that nobody was given and requests that a read-only mount does not let
// through.
func TestRaw(t *testing.T) {
	_, img, dev := sample(t)
	fs, stale := fusefs.New(img, dev, fusefs.Options{}), fuse.Status(unix.ESTALE)
	buf := make([]byte, 4096)
	for _, node := range []uint64{0, 2, 3, 1 << 20, 1 << 31, 1 << 32, 1 << 59, 1 << 63, math.MaxUint64, math.MaxUint64 - 1} {
		h := fuse.InHeader{NodeId: node}
		var entry fuse.EntryOut
		var opened fuse.OpenOut
		list := fuse.NewDirEntryList(buf, 0)
		_, readlink := fs.Readlink(nil, &h)
		_, getxattr := fs.GetXAttr(nil, &h, "user.a", buf)
		_, listxattr := fs.ListXAttr(nil, &h, buf)
		_, read := fs.Read(nil, &fuse.ReadIn{InHeader: h, Size: 4096}, buf)
		for name, got := range map[string]fuse.Status{
			"lookup": fs.Lookup(nil, &h, "x", &entry), "getattr": fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: h}, &fuse.AttrOut{}),
			"readlink": readlink, "getxattr": getxattr, "listxattr": listxattr, "read": read,
			"open": fs.Open(nil, &fuse.OpenIn{InHeader: h}, &opened), "opendir": fs.OpenDir(nil, &fuse.OpenIn{InHeader: h}, &opened),
			"readdir": fs.ReadDir(nil, &fuse.ReadIn{InHeader: h}, list), "readdirplus": fs.ReadDirPlus(nil, &fuse.ReadIn{InHeader: h}, list),
			"lseek": fs.Lseek(nil, &fuse.LseekIn{InHeader: h, Whence: 3}, &fuse.LseekOut{}),
		} {
			if got != stale {
				t.Errorf("%s of node %d: %v, want ESTALE", name, node, got)
			}
		}
		fs.Forget(node, 1)
	}
	root := fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}
	if _, got := fs.Read(nil, &fuse.ReadIn{InHeader: root, Size: 10}, buf); got != fuse.Status(unix.EISDIR) {
		t.Errorf("read of a directory: %v", got)
	}
	list := fuse.NewDirEntryList(buf, 0)
	if got := fs.ReadDir(nil, &fuse.ReadIn{InHeader: root, Offset: math.MaxUint64}, list); got != fuse.EINVAL {
		t.Errorf("list from nowhere: %v", got)
	}
	if got := fs.ReadDir(nil, &fuse.ReadIn{InHeader: root, Offset: math.MaxInt64}, list); got != fuse.OK || len(list.Bytes()) > 0 {
		t.Errorf("list from behind the end: %v", got)
	}
	_, write := fs.Write(nil, &fuse.WriteIn{}, nil)
	for name, got := range map[string]fuse.Status{
		"setattr": fs.SetAttr(nil, &fuse.SetAttrIn{}, nil), "mknod": fs.Mknod(nil, nil, "x", nil), "mkdir": fs.Mkdir(nil, nil, "x", nil),
		"unlink": fs.Unlink(nil, nil, "x"), "rmdir": fs.Rmdir(nil, nil, "x"), "rename": fs.Rename(nil, nil, "x", "y"), "link": fs.Link(nil, nil, "x", nil),
		"symlink": fs.Symlink(nil, nil, "x", "y", nil), "create": fs.Create(nil, nil, "x", nil), "tmpfile": fs.Tmpfile(nil, nil, nil),
		"setxattr": fs.SetXAttr(nil, nil, "x", nil), "removexattr": fs.RemoveXAttr(nil, nil, "x"), "write": write, "fallocate": fs.Fallocate(nil, nil),
		"open": fs.Open(nil, &fuse.OpenIn{InHeader: root, Flags: unix.O_RDWR}, nil),
	} {
		if got != fuse.EROFS {
			t.Errorf("%s: %v, want EROFS", name, got)
		}
	}
}

// TestTakeOver compares the node ids of two servers, of which the second takes over the kernel's nodes.
func TestTakeOver(t *testing.T) {
	_, img, dev := sample(t)
	_, again, _ := sample(t)
	var first, second fuse.EntryOut
	h := &fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}
	fusefs.New(img, dev, fusefs.Options{}).Lookup(nil, h, "plain-4096", &first)
	other := fusefs.New(again, dev, fusefs.Options{})
	other.Lookup(nil, h, "plain-4096", &second)
	if first != second || first.NodeId == 0 {
		t.Errorf("%+v and %+v", first, second)
	}
	// A file that was opened with the first one is read with the second one, which was asked nothing before.
	fresh := fusefs.New(again, dev, fusefs.Options{})
	buf := make([]byte, 4096)
	result, code := fresh.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: first.NodeId}, Fh: 0, Size: 4096}, buf)
	if !code.Ok() {
		t.Fatal(code)
	}
	if b, _ := result.Bytes(make([]byte, 4096)); !bytes.Equal(b, erofstest.Random(4096)) {
		t.Error("other bytes")
	}
}
