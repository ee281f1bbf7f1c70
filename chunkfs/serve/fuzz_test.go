package serve

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// FuzzOpen takes any bytes as the body of a request for a mount. What is let through leads nowhere but to the mount's own files, and is
// read back from its record as it was.
func FuzzOpen(f *testing.F) {
	good, err := json.Marshal(control.Open{ID: "12", Target: "/run/x", Image: "debian/12", Origins: []origin.Config{{URL: "https://u:p@h/"}},
		Mode: control.Lazy, Verify: true, Prefetch: control.PrefetchTrace, Role: "boot", Kernel: "file"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("12", good)
	f.Add("..", []byte(`{"id":"..","target":"/x","image":"a"}`))
	f.Add("1", []byte(`{"id":"1","target":"/a/../b","image":"blake3:00","bandwidth":9223372036854775808}`))
	f.Add("1", []byte(strings.Repeat("[", 20000)))
	f.Fuzz(func(t *testing.T, id string, body []byte) {
		o, err := readOpen(id, bytes.NewReader(body))
		if err != nil {
			return
		}
		if filepath.Base(o.ID+".json") != o.ID+".json" || strings.HasPrefix(o.ID, ".") || !filepath.IsAbs(o.Target) {
			t.Fatalf("%q at %q is let through", o.ID, o.Target)
		}
		kept, err := json.Marshal(&record{Open: *o})
		if err != nil {
			t.Fatal(err)
		}
		var again record
		if err := json.Unmarshal(kept, &again); err != nil {
			t.Fatalf("the record %s: %v", kept, err)
		}
		if twice, err := json.Marshal(&again); err != nil || !bytes.Equal(kept, twice) {
			t.Fatalf("the record %s is read as %s, %v", kept, twice, err)
		}
	})
}

// FuzzRecord takes any bytes as a record that a predecessor left.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"open":{"id":"1","target":"/x","image":"a","origins":null,"mode":"lazy","verify":true,"prefetch":"","role":"","bandwidth":0,"pin":false,"kernel":""},"node":1,"mode":"lazy","init":null,"done":true,"image":""}`))
	f.Add([]byte(`{"image":"blake3:","node":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		if _, err := json.Marshal(&r); err != nil {
			t.Fatal(err)
		}
	})
}
