package iscsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is a sysfs of our own making.
type tree struct {
	t   *testing.T
	dir string
}

func (s tree) write(name, content string) {
	path := filepath.Join(s.dir, name)
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(s.t, os.WriteFile(path, []byte(content+"\n"), 0o644))
}

// session makes one as Linux 6.1 shows it.
func (s tree) session(id int, name, creator, portal string) {
	device := fmt.Sprintf("devices/platform/host%d/session%d/", id+10, id)
	class := device + fmt.Sprintf("iscsi_session/session%d/", id)
	for k, v := range map[string]string{"ifacename": name, "creator": creator, "state": "LOGGED_IN", "targetname": "iqn.2026-01.org.example:disk"} {
		s.write(class+k, v)
	}
	conn := device + fmt.Sprintf("connection%d:0/iscsi_connection/connection%d:0/", id, id)
	s.write(conn+"persistent_address", portal)
	s.write(conn+"persistent_port", "3260")
	must(s.t, os.Symlink(filepath.Join(s.dir, device), filepath.Join(s.dir, class, "device")))
	must(s.t, os.MkdirAll(filepath.Join(s.dir, "class/iscsi_session"), 0o755))
	must(s.t, os.Symlink(filepath.Join(s.dir, class), filepath.Join(s.dir, fmt.Sprintf("class/iscsi_session/session%d", id))))
}

func (s tree) disk(id, lun int, name, devnum string) {
	s.write(fmt.Sprintf("devices/platform/host%d/session%d/target%d:0:0/%d:0:0:%d/block/%s/dev", id+10, id, id+10, id+10, lun, name), devnum)
	s.write(fmt.Sprintf("devices/platform/host%d/session%d/target%d:0:0/%d:0:0:%d/block/%s/ro", id+10, id, id+10, id+10, lun, name), "1")
}

func TestSessionsAreFoundWithoutMemory(t *testing.T) {
	s := tree{t, t.TempDir()}
	s.session(1, "w.7", "100", "fd99::1")
	s.disk(1, 1, "sda", "8:0")
	s.session(2, "(null)", "200", "(null)")   // made by a daemon that was killed before it gave it its name
	s.session(3, "(null)", "201", "<NULL>")   // somebody else's
	s.session(4, "default", "200", "1.2.3.4") // open-iscsi's
	s.session(5, "w.07", "1", "1.2.3.4")
	d := New(Config{Instance: "w", Dir: filepath.Join(t.TempDir(), "iscsi")})
	d.sys = s.dir

	if all, err := d.ours(8); err != nil || len(all) != 0 {
		t.Errorf("before anything was promised: %+v, %v", all, err)
	}
	must(t, d.promise(8, 200))
	for id, want := range map[attach.ID]uint32{7: 1, 8: 2} {
		if all, err := d.ours(id); err != nil || len(all) != 1 || all[0].id != want || all[0].host != want+10 {
			t.Errorf("%d: %+v, %v", id, all, err)
		}
	}
	listed, err := d.List(t.Context())
	if err != nil || len(listed) != 2 {
		t.Fatalf("%+v, %v", listed, err)
	}
	if want := (attach.Device{ID: 7, Number: 1, Path: "/dev/sda", DevNum: unix.Mkdev(8, 0), ReadOnly: true}); listed[0] != want {
		t.Errorf("%+v, want %+v", listed[0], want)
	}
	if want := (attach.Device{ID: 8, Number: 2}); listed[1] != want {
		t.Errorf("%+v, want %+v", listed[1], want)
	}
	for id, want := range map[attach.ID]attach.State{7: attach.Ready, 8: attach.Partial, 9: attach.Gone} {
		if _, state, err := d.Probe(t.Context(), id, nil); err != nil || state != want {
			t.Errorf("%d: state %d, %v; want %d", id, state, err, want)
		}
	}
	must(t, d.fulfil(8))
	must(t, d.fulfil(8))
	if all, err := d.ours(8); err != nil || len(all) != 0 {
		t.Errorf("after the promise was fulfilled: %+v, %v", all, err)
	}
	first, _, _ := d.find(1)
	if got := first.place(); got != (login.Portal{Host: "fd99::1", Port: 3260}) {
		t.Errorf("logged in at %+v", got)
	}
}

func TestOneErrorOfSeveral(t *testing.T) {
	closed := fault.Hintf(fault.New(fault.Backend, "connect to a: connection refused"), "check the port")
	refused := fault.Hintf(fault.New(fault.NotFound, "%w", &login.StatusError{Class: 2, Detail: 3}), "check the name")
	err := oneOf([]error{closed, refused, closed})
	if !fault.Is(err, fault.NotFound) || fault.HintOf(err) != "check the name" || strings.Count(err.Error(), "refused") != 2 {
		t.Errorf("%v (%s), hint %q", err, fault.KindOf(err), fault.HintOf(err))
	}
	if one := oneOf([]error{closed}); one != closed {
		t.Errorf("one alone: %v", one)
	}
}

func TestNameThatIsNone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := login.Resolve(ctx, login.Portal{Host: "nobody.invalid", Port: 3260}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestSessionThatIsNotHeardOf is taken down all the same, and others are not.
func TestSessionThatIsNotHeardOf(t *testing.T) {
	d, s, f := onFake(t)
	s.session(1, "(null)", "1073741824", "(null)")
	s.session(2, "(null)", "77", "(null)")
	f.on(func(kind iscsinl.IscsiEvent, message []byte) {
		if sid := binary.NativeEndian.Uint32(message[sidAt:]); sid != 1 {
			t.Errorf("request %d about session %d", kind, sid)
		}
		if kind == iscsinl.UEVENT_BASE+33 { // destroy
			must(t, os.Remove(filepath.Join(s.dir, "class/iscsi_session/session1")))
		}
	})
	kernel, err := d.open(t.Context())
	must(t, err)
	must(t, d.promise(7, kernel.Creator()))
	l := &link{driver: d, id: 7, kernel: kernel, unsure: true}
	must(t, l.remove(t.Context()))
	if all, err := d.sessions(); err != nil || len(all) != 1 || all[0].id != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if creator, err := d.promised(7); creator != 0 || err != nil {
		t.Errorf("the promise stays: %d, %v", creator, err)
	}
}
