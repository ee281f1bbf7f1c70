//go:build lab

package iscsi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/attachtest"
	"github.com/windlass-hpc/windlass/attach/iscsi"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

var suite = attachtest.Suite{
	New:     func(instance string) attach.Driver { return driver(instance) },
	Spec:    suiteSpec,
	Hostile: hostile,
	Many:    8,
	Pause:   30 * time.Millisecond,
}

func TestMain(m *testing.M)        { attachtest.Main(m, suite) }
func TestDriver(t *testing.T)      { attachtest.Run(t, suite) }
func BenchmarkDriver(b *testing.B) { attachtest.Benchmark(b, suite) }

const (
	initiator   = "iqn.2026-01.org.example:guest"
	credentials = "/run/iscsi-lab-credentials"
)

func driver(instance string) *iscsi.Driver {
	log := logrus.New()
	log.SetOutput(os.Stderr)
	return iscsi.New(iscsi.Config{
		Instance: instance, Dir: filepath.Join("/run/iscsi-lab", instance), Helper: helper.New(os.Getenv(helpertest.ShimVar)),
		Credentials: credential.Store{Dir: credentials}, Log: log,
	})
}

var numbers atomic.Int64

// unique gives a name that no other test has.
func unique(what string) string { return fmt.Sprintf("%s-%d-%d", what, os.Getpid(), numbers.Add(1)) }

func iqn() string { return "iqn.2026-01.org.example:" + unique("t") }

// suiteSpec is exported, and sees to it that the test leaves no session, not even one that nobody finds.
func suiteSpec(t testing.TB, file string) *models.Attach {
	t.Helper()
	t.Cleanup(func() { nothingLeft(t) })
	return exported(t, file)
}

// exported puts the file on a LUN and makes a spec of it.
func exported(t testing.TB, file string) *models.Attach {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	return export(t, f, nil)
}

// export puts content on LUN 1 of a target of its own, changed by change, and makes a spec of it.
func export(t testing.TB, content io.Reader, change func(*control.Target)) *models.Attach {
	t.Helper()
	c := control.Dial(t)
	disk := c.TGT().Disk(t, 0)
	c.Put(t, disk, content)
	target := control.Target{IQN: iqn(), LUNs: []control.LUN{{Number: 1, File: disk}}}
	if change != nil {
		change(&target)
	}
	c.TGT().Target(t, target)
	return spec(target.IQN, 1)
}

func spec(target string, lun int64) *models.Attach {
	host, from := "10.99.0.1", initiator
	return &models.Attach{Kind: models.AttachKindIscsi, Iscsi: &models.AttachIscsi{Initiator: &from, Target: &target, Host: &host, Lun: &lun}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, kind fault.Kind, says string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v (%s)\nwant %s that says %q", err, fault.KindOf(err), kind, says)
	}
}

// nothingLeft fails when the kernel has an iSCSI session, a SCSI host or a disk.
func nothingLeft(t testing.TB) {
	t.Helper()
	sessions, _ := filepath.Glob("/sys/class/iscsi_session/*")
	for _, dir := range sessions {
		t.Errorf("%s: name %s, creator %s, state %s", filepath.Base(dir), attribute(t, dir+"/ifacename"), attribute(t, dir+"/creator"), attribute(t, dir+"/state"))
	}
	for _, pattern := range []string{"/sys/class/iscsi_session/*", "/sys/class/iscsi_host/*", "/sys/class/scsi_host/*", "/sys/block/sd*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Errorf("left: %q", found)
		}
	}
}

// attached is one by a driver of its own; it is detached at the end of the test.
func attached(t testing.TB, d *iscsi.Driver, s *models.Attach, base attach.Base) attach.Device {
	t.Helper()
	if base.Dir == "" {
		base.Dir = "/"
	}
	dev, err := d.Attach(t.Context(), 1, s, base)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, fault.HintOf(err))
	}
	t.Cleanup(func() {
		if err := d.Detach(context.Background(), dev, true); err != nil {
			t.Errorf("detach at the end: %v", err)
		}
		nothingLeft(t)
	})
	return dev
}

func newDriver(t testing.TB) *iscsi.Driver {
	d := driver(unique("lab"))
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// pattern is n bytes that no two blocks of are alike.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%016d", i)
	}
	return b.Bytes()[:n]
}

func attribute(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return strings.TrimSpace(string(b))
}

func hostile(t testing.TB) []attachtest.Hostile {
	good := export(t, bytes.NewReader(make([]byte, 1<<20)), nil)
	with := func(change func(*models.AttachIscsi)) *models.Attach {
		part := *good.Iscsi
		change(&part)
		return &models.Attach{Kind: good.Kind, Iscsi: &part}
	}
	text := func(s string) *string { return &s }
	number := func(n int64) *int64 { return &n }
	type i = *models.AttachIscsi
	return []attachtest.Hostile{
		{What: "nothing", Spec: &models.Attach{}, Kind: fault.Invalid, Says: "iscsi is missing"},
		{What: "a target that is no name", Spec: with(func(i i) { i.Target = text("disk one") }), Kind: fault.Invalid, Says: "iscsi.target"},
		{What: "an initiator with a second key", Spec: with(func(i i) { i.Initiator = text(initiator + "\x00AuthMethod=None") }), Kind: fault.Invalid, Says: "iscsi.initiator"},
		{What: "a host that is none", Spec: with(func(i i) { i.Host = text("10.99.0.1 -x") }), Kind: fault.Invalid, Says: "iscsi.host"},
		{What: "a host nobody knows", Spec: with(func(i i) { i.Host = text("nobody.invalid"); i.LoginTimeout = 3 }), Kind: fault.Unavailable, Says: "nobody.invalid"},
		{What: "a port that is closed", Spec: with(func(i i) { i.Port = 3999 }), Kind: fault.Backend, Says: "10.99.0.1:3999: connection refused"},
		{What: "a port where something else listens", Spec: with(func(i i) { i.Port = 8000; i.LoginTimeout = 1 }), Kind: fault.Timeout, Says: "10.99.0.1:8000: the target does not answer"},
		{What: "an unknown target", Spec: with(func(i i) { i.Target = text("iqn.2026-01.org.example:none") }), Kind: fault.NotFound, Says: "no such target"},
		{What: "a LUN that is not there", Spec: with(func(i i) { i.Lun = number(7) }), Kind: fault.NotFound, Says: "has no LUN 7, only 0, 1"},
		{What: "a controller", Spec: with(func(i i) { i.Lun = number(0) }), Kind: fault.Invalid, Says: "a storage controller"},
		{What: "an unknown scheduler", Spec: with(func(i i) { i.Scheduler = text("fastest") }), Kind: fault.Invalid, Says: "no I/O scheduler fastest for this disk, only "},
		{What: "a digest that the target refuses", Spec: with(func(i i) { i.HeaderDigest = "crc32c" }), Kind: fault.Backend, Says: "HeaderDigest"},
		{What: "a credential that is not there", Spec: with(func(i i) {
			i.Chap = &models.IscsiChap{User: text("alice"), Credential: "missing"}
		}), Kind: fault.NotFound, Says: "iscsi.chap"},
	}
}

func TestDeviceIsSetUpAsAsked(t *testing.T) {
	d := newDriver(t)
	content := pattern(4 << 20)
	s := export(t, bytes.NewReader(content), nil)
	depth, commands, scheduler := int64(40), int64(200), "noop"
	s.Iscsi.QueueDepth, s.Iscsi.MaxComands, s.Iscsi.Scheduler = &depth, &commands, &scheduler
	zero := int64(0)
	s.Iscsi.RecoveryTimeout = &zero
	dev := attached(t, d, s, attach.Base{ReadOnly: true})
	if !dev.ReadOnly {
		t.Error("it can be written")
	}
	got, err := os.ReadFile(dev.Path)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes that are not those of the LUN", len(got))
	}
	block := "/sys/block/" + filepath.Base(dev.Path)
	for file, want := range map[string]string{"queue/scheduler": "[none]", "device/queue_depth": "40", "ro": "1"} {
		if got := attribute(t, filepath.Join(block, file)); !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	session := fmt.Sprintf("/sys/class/iscsi_session/session%d", dev.Number)
	for file, want := range map[string]string{"state": "LOGGED_IN", "recovery_tmo": "off", "targetname": *s.Iscsi.Target, "initiatorname": initiator,
		"username": "(null)", "password": "(null)"} {
		if got := attribute(t, filepath.Join(session, file)); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if luns, _ := filepath.Glob(session + "/device/target*/*:*:*:*"); len(luns) != 1 {
		t.Errorf("LUNs are there that nobody asked for: %q", luns)
	}
	part := models.Attach{Kind: s.Kind, Iscsi: s.Iscsi}
	d.Refresh(t.Context(), []attach.ID{1})
	d.Observe(1, &part)
	if o := part.Iscsi.Session; o == nil || o.ID != dev.Number || o.State != "LOGGED_IN" || o.Portal != control.Portal || part.Error != "" {
		t.Errorf("observed: %+v, %q", o, part.Error)
	}
	if s.Iscsi.Session != nil {
		t.Error("Observe has changed what is not its own")
	}
	if aborted, err := d.Abort(t.Context(), dev); aborted || err != nil {
		t.Errorf("abort of a healthy device: %v, %v", aborted, err)
	}
}

func TestWriteAndReadBack(t *testing.T) {
	d := newDriver(t)
	c := control.Dial(t)
	disk := c.TGT().Disk(t, 4<<20)
	target := control.Target{IQN: iqn(), LUNs: []control.LUN{{Number: 5, File: disk}, {Number: 300, File: disk, ReadOnly: true}}}
	c.TGT().Target(t, target)
	dev := attached(t, d, spec(target.IQN, 5), attach.Base{})
	content := pattern(4 << 20)
	must(t, os.WriteFile(dev.Path, content, 0)) // no sync: detaching sees to that
	must(t, d.Detach(t.Context(), dev, false))
	nothingLeft(t)
	if got := c.Get(t, disk); !bytes.Equal(got, content) {
		t.Error("the target has not got what was written")
	}
	if left := c.TGT().Sessions(t, target.IQN); len(left) != 0 {
		t.Errorf("the target still has sessions of %q", left)
	}
	other, err := d.Attach(t.Context(), 2, spec(target.IQN, 300), attach.Base{Dir: "/"})
	must(t, err)
	defer func() { must(t, d.Detach(context.Background(), other, false)) }()
	if !other.ReadOnly {
		t.Error("the target's write protection is not seen")
	}
	if f, err := os.OpenFile(other.Path, os.O_RDWR, 0); err == nil {
		t.Error("it is opened for writing")
		f.Close()
	}
}

// TestDeviceThatIsOpen: the kernel lets go of a disk that is open, so the driver looks for itself. The session is kept all the while.
func TestDeviceThatIsOpen(t *testing.T) {
	d := newDriver(t)
	s := export(t, bytes.NewReader(pattern(1<<20)), nil)
	dev := attached(t, d, s, attach.Base{})
	f, err := os.Open(dev.Path)
	must(t, err)
	defer f.Close()
	for _, force := range []bool{false, true} {
		wantError(t, d.Detach(t.Context(), dev, force), fault.Busy, fmt.Sprintf("%s is in use by pid %d (", dev.Path, os.Getpid()))
	}
	c := control.Dial(t)
	c.TGT().Signal(t, "KILL")
	seen(t, d, s, lost)
	wantError(t, d.Detach(t.Context(), dev, true), fault.Busy, dev.Path)
	c.TGT().Start(t)
	seen(t, d, s, recovered(1))
	if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
		t.Error(err)
	}
	f.Close()
	must(t, d.Detach(t.Context(), dev, false))
}

// TestSessionTakenAway has somebody else destroy the session.
func TestSessionTakenAway(t *testing.T) {
	instance := unique("taken")
	d, other := driver(instance), driver(instance)
	t.Cleanup(func() { must(t, d.Close()); must(t, other.Close()) })
	s := export(t, bytes.NewReader(pattern(1<<20)), nil)
	dev := attached(t, d, s, attach.Base{})
	must(t, other.Detach(t.Context(), attach.Device{ID: 1}, false))
	a := seen(t, d, s, func(a *models.Attach) bool { return strings.Contains(a.Error, "has gone from the kernel") })
	if a.Iscsi.Session.State != "gone" {
		t.Errorf("the session is %s", a.Iscsi.Session.State)
	}
	if _, state, err := d.Probe(t.Context(), 1, s); state != attach.Gone || err != nil {
		t.Errorf("probe: %d, %v", state, err)
	}
	must(t, d.Detach(t.Context(), dev, false))
}

func TestManyWays(t *testing.T) {
	account := control.Account{User: "alice", Password: "secretsecret12"}
	out := control.Account{User: "target", Password: "othersecret345"}
	user, outUser := account.User, out.User
	right, wrong := &models.IscsiChap{User: &user, Secret: account.Password}, &models.IscsiChap{User: &user, Secret: "wrongwrongwrong"}
	must(t, os.MkdirAll(credentials, 0o700))
	must(t, os.WriteFile(filepath.Join(credentials, "alice"), []byte(account.Password+"\n"), 0o600))
	digests := map[string]string{"HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None"}
	for what, tt := range map[string]struct {
		target func(*control.Target)
		spec   func(*models.AttachIscsi)
		kind   fault.Kind // "": it works
		says   string
	}{
		"chap":           {target: func(c *control.Target) { c.CHAP = []control.Account{account} }, spec: func(i *models.AttachIscsi) { i.Chap = right }},
		"chap by a name": {target: func(c *control.Target) { c.CHAP = []control.Account{account} }, spec: func(i *models.AttachIscsi) { i.Chap = &models.IscsiChap{User: &user, Credential: "alice"} }},
		"mutual chap": {target: func(c *control.Target) { c.CHAP, c.Mutual = []control.Account{account}, &out },
			spec: func(i *models.AttachIscsi) {
				i.Chap, i.MutualChap = right, &models.IscsiChap{User: &outUser, Secret: out.Password}
			}},
		"digests":                             {target: func(c *control.Target) { c.Params = digests }, spec: func(i *models.AttachIscsi) { i.HeaderDigest, i.DataDigest = "crc32c", "crc32c" }},
		"digests if any":                      {spec: func(i *models.AttachIscsi) { i.HeaderDigest, i.DataDigest = "prefer-crc32c", "prefer-crc32c" }},
		"IPv6":                                {spec: func(i *models.AttachIscsi) { h := "fd99::1"; i.Host = &h }},
		"IPv6 in brackets":                    {spec: func(i *models.AttachIscsi) { h := "[fd99::1]"; i.Host = &h }},
		"discovery":                           {spec: func(i *models.AttachIscsi) { i.Discover = true }},
		"a name with addresses that are dead": {spec: func(i *models.AttachIscsi) { h := "storage"; i.Host = &h }},

		"wrong password": {func(c *control.Target) { c.CHAP = []control.Account{account} }, func(i *models.AttachIscsi) { i.Chap = wrong }, fault.Forbidden, "authentication failed"},
		"no password":    {func(c *control.Target) { c.CHAP = []control.Account{account} }, func(*models.AttachIscsi) {}, fault.Forbidden, "authentication failed"},
		"a target that is somebody else": {func(c *control.Target) { c.CHAP, c.Mutual = []control.Account{account}, &out }, func(i *models.AttachIscsi) {
			i.Chap, i.MutualChap = right, &models.IscsiChap{User: &outUser, Secret: "wrongwrongwrong"}
		}, fault.Forbidden, "the target has not proved itself"},
		"discovery of another": {nil, func(i *models.AttachIscsi) { n := "iqn.2026-01.org.example:none"; i.Discover, i.Target = true, &n }, fault.NotFound, "tells of no target iqn.2026-01.org.example:none: it has iqn."},
	} {
		t.Run(what, func(t *testing.T) {
			if strings.Contains(what, "a name with") {
				hosts(t, "fd99::dead storage\n10.99.0.1 storage\n")
			}
			content := pattern(1 << 20)
			s := export(t, bytes.NewReader(content), tt.target)
			tt.spec(s.Iscsi)
			d := newDriver(t)
			if tt.kind != "" {
				_, err := d.Attach(t.Context(), 1, s, attach.Base{Dir: "/"})
				wantError(t, err, tt.kind, tt.says)
				nothingLeft(t)
				if err != nil && strings.Contains(err.Error()+fault.HintOf(err), "wrong") {
					t.Errorf("it shows the secret: %v", err)
				}
				return
			}
			dev := attached(t, d, s, attach.Base{})
			if got, err := os.ReadFile(dev.Path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if strings.Contains(what, "digests") {
				conn := fmt.Sprintf("/sys/class/iscsi_connection/connection%d:0/", dev.Number)
				want := "0"
				if what == "digests" {
					want = "1"
				}
				if h, b := attribute(t, conn+"header_digest"), attribute(t, conn+"data_digest"); h != want || b != want {
					t.Errorf("digests are %s and %s, want %s", h, b, want)
				}
			}
		})
	}
}

// hosts adds lines to /etc/hosts for the test.
func hosts(t *testing.T, lines string) {
	t.Helper()
	before, err := os.ReadFile("/etc/hosts")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	must(t, os.WriteFile("/etc/hosts", append(slices.Clip(before), lines...), 0o644))
	t.Cleanup(func() { must(t, os.WriteFile("/etc/hosts", before, 0o644)) })
}
