package iscsi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
)

// TestSessionThatIsGoneIsTold holds with a keeper and without.
func TestSessionThatIsGoneIsTold(t *testing.T) {
	for _, kept := range []bool{true, false} {
		d, s, _ := onFake(t)
		s.session(1, "w.7", "100", "192.0.2.10")
		s.disk(1, 1, "sda", "8:0")
		if kept {
			if _, state, err := d.Probe(t.Context(), 7, specOf()); state != attach.Ready || err != nil {
				t.Fatalf("%d, %v", state, err)
			}
		}
		a := specOf()
		d.Refresh(t.Context(), []attach.ID{7})
		d.Observe(7, a)
		if a.Error != "" || kept != (a.Iscsi.Session != nil) {
			t.Errorf("kept %v: %q, %+v", kept, a.Error, a.Iscsi.Session)
		}
		must(t, os.Rename(filepath.Join(s.dir, "class/iscsi_session/session1"), filepath.Join(s.dir, "class/iscsi_session/away")))
		if kept {
			eventually(t, "the keeper ends", func() bool { return d.keepers[7].ping(t.Context()) != nil })
		}
		d.mu.Lock()
		d.facts[7] = fact{at: time.Now().Add(-time.Minute), state: d.facts[7].state}
		d.mu.Unlock()
		a = specOf()
		d.Refresh(t.Context(), []attach.ID{7})
		d.Observe(7, a)
		if !strings.Contains(a.Error, "has gone from the kernel") || a.Iscsi.Session == nil || a.Iscsi.Session.State != "gone" {
			t.Errorf("kept %v: %q, %+v", kept, a.Error, a.Iscsi.Session)
		}
		d.Refresh(t.Context(), nil)
		if len(d.facts) != 0 {
			t.Errorf("known of what is no more: %+v", d.facts)
		}
	}
}
