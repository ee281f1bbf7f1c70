package iscsi

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/u-root/iscsinl"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// specOf is the spec of the sessions that tree makes.
func specOf() *models.Attach { return &models.Attach{Kind: models.AttachKindIscsi, Iscsi: valid()} }

// unreadable makes a file one that cannot be looked at, and gives what undoes that. It is there all the time: what is not, has gone.
func (s tree) unreadable(path string) (restore func()) {
	path = filepath.Join(s.dir, path)
	aside := filepath.Join(s.t.TempDir(), "directory")
	must(s.t, os.Mkdir(aside, 0o755))
	exchange := func() { must(s.t, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, aside, unix.RENAME_EXCHANGE)) }
	exchange()
	return exchange
}

func TestWhatCannotBeLookedAtHasNotGone(t *testing.T) {
	d, s, _ := onFake(t)
	s.session(1, "w.7", "100", "192.0.2.10")
	s.disk(1, 1, "sda", "8:0")
	for _, file := range []string{
		"class/iscsi_session/session1/state", "class/iscsi_session/session1/ifacename",
		"devices/platform/host11/session1/target11:0:0/11:0:0:1/block/sda/dev",
	} {
		restore := s.unreadable(file)
		if dev, state, err := d.Probe(t.Context(), 7, nil); err == nil {
			t.Errorf("without %s: probe says %d, %+v", file, state, dev)
		}
		if all, err := d.List(t.Context()); err == nil {
			t.Errorf("without %s: listed are %+v", file, all)
		}
		restore()
	}
	if _, state, err := d.Probe(t.Context(), 7, nil); state != attach.Ready || err != nil {
		t.Errorf("%d, %v", state, err)
	}
}

// TestKeeperGoesOn has a keeper not see its session for a while.
func TestKeeperGoesOn(t *testing.T) {
	d, s, _ := onFake(t)
	s.session(1, "w.7", "100", "192.0.2.10")
	s.disk(1, 1, "sda", "8:0")
	if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
		t.Fatalf("%d, %v", state, err)
	}
	k := d.keepers[7]
	restore := s.unreadable("class/iscsi_session/session1/state")
	for range 3 { // it looks before each
		if err := k.ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
	restore()
}

// TestAdopt has many take the same session at once, and one again that was gone for a moment.
func TestAdopt(t *testing.T) {
	d, s, _ := onFake(t)
	s.session(1, "w.7", "100", "192.0.2.10")
	s.disk(1, 1, "sda", "8:0")
	seen := make(chan *keeper, 20)
	var all sync.WaitGroup
	for range cap(seen) {
		all.Go(func() {
			if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
				t.Errorf("%d, %v", state, err)
			}
			d.mu.Lock()
			seen <- d.keepers[7]
			d.mu.Unlock()
		})
	}
	all.Wait()
	first := <-seen
	for len(seen) > 0 {
		if k := <-seen; k != first || k == nil {
			t.Fatal("two keepers keep one session")
		}
	}
	link := filepath.Join(s.dir, "class/iscsi_session/session1")
	must(t, os.Rename(link, link+".away"))
	eventually(t, "the keeper sees that its session has gone", func() bool { return first.ping(t.Context()) != nil && first.ended() })
	must(t, os.Rename(link+".away", link))
	if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
		t.Errorf("%d, %v", state, err)
	}
	if k := d.keepers[7]; k == first || k.ended() {
		t.Error("nobody keeps the session that is there again")
	}
}

// TestTargetThatTalks says more by itself than anybody has room for, and nothing that would be a reason to give it up.
func TestTargetThatTalks(t *testing.T) {
	d, s, f := onFake(t)
	s.session(1, "w.7", "100", "192.0.2.10")
	s.disk(1, 1, "sda", "8:0")
	if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
		t.Fatalf("%d, %v", state, err)
	}
	k := d.keepers[7]
	must(t, k.ping(t.Context()))
	for range 10 {
		for range 30 {
			f.pdu(1, async(0))
			f.pdu(1, async(255))
		}
		for range 10 {
			f.pdu(1, login.PDU{Header: [login.HeaderLen]byte{byte(login.OpReject)}})
		}
		if err := k.ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if text := k.trouble(time.Now()); text != "" {
		t.Error(text)
	}
}

// TestTargetThatSaysGoodbye is logged in again.
func TestTargetThatSaysGoodbye(t *testing.T) {
	for event, says := range map[byte]string{1: "asks us to log out", 2: "drops", 3: "drops", 4: "parameters"} {
		d, s, f := onFake(t)
		s.session(1, "w.7", "100", "192.0.2.10")
		s.disk(1, 1, "sda", "8:0")
		var out atomic.Int64
		f.on(func(kind iscsinl.IscsiEvent, message []byte) {
			if kind == iscsinl.ISCSI_UEVENT_SEND_PDU && login.Opcode(message[messageIs]&0x3f) == login.OpLogoutRequest {
				out.Add(1)
			}
		})
		if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
			t.Fatalf("%d, %v", state, err)
		}
		must(t, d.keepers[7].ping(t.Context()))
		f.pdu(1, async(event))
		eventually(t, "the session is lost", func() bool { return strings.Contains(d.keepers[7].trouble(time.Now()), says) })
		if (out.Load() == 1) != (event == 1) {
			t.Errorf("event %d: logged out %d times", event, out.Load())
		}
	}
}

func async(event byte) login.PDU {
	var p login.PDU
	p.Header[0], p.Header[36] = byte(login.OpAsync), event
	return p
}

// TestPauses: a target that lets us in and drops us at once is not asked every half second for ever.
func TestPauses(t *testing.T) {
	k, now := &keeper{}, time.Now()
	for n, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		if k.pause = k.nextPause(now); k.pause != want {
			t.Errorf("%d: %s, want %s", n, k.pause, want)
		}
		k.won = now.Add(time.Second)
		now = k.won.Add(29 * time.Second)
	}
	if pause := k.nextPause(k.won.Add(30 * time.Second)); pause != firstPause {
		t.Errorf("after a session that has lasted: %s", pause)
	}
}
