//go:build ceph

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/image/rbd"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// TestCluster runs everything on one cluster; the subtests use images of different names.
func TestCluster(t *testing.T) {
	l := start(t, "10.99.0.1")
	for _, c := range []struct {
		name string
		test func(*lab)
	}{
		{"Publish", testPublish}, {"PublishSmall", testPublishSmall}, {"PublishFlags", testPublishFlags}, {"Exists", testExists},
		{"Replace", testReplace}, {"ReplaceOpen", testReplaceOpen}, {"Killed", testKilled}, {"KilledAmidSwap", testKilledAmidSwap}, {"Interrupted", testInterrupted},
		{"Changed", testChanged}, {"NoAnswer", testNoAnswer}, {"TwoAtOnce", testTwoAtOnce}, {"Terminal", testTerminal}, {"List", testList},
		{"Remove", testRemove}, {"Removing", testRemoving}, {"RemoveOpen", testRemoveOpen}, {"RemoveBlind", testRemoveBlind}, {"Clones", testClones}, {"Namespace", testNamespace},
		{"Connect", testConnect}, {"ConnectInterrupted", testConnectInterrupted}, {"ReadOnlyUser", testReadOnlyUser}, {"Publisher", testPublisher},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(l.in(t)) })
	}
}

// file makes a file that looks like a squashfs: a head, and data islands bytes long every step bytes up to its length; else holes.
func (l *lab) file(name string, head string, length, step, island int64) string {
	l.Helper()
	path := filepath.Join(l.dir, name)
	f, err := os.Create(path)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(length); err != nil {
		l.Fatal(err)
	}
	noise := make([]byte, island)
	rand.New(rand.NewSource(int64(len(name)))).Read(noise)
	for at := int64(0); at+island <= length && step > 0; at += step {
		if _, err := f.WriteAt(noise, at); err != nil {
			l.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte("hsqs"+head), 0); err != nil {
		l.Fatal(err)
	}
	return path
}

// small makes a file of a few pages that begins as said.
func (l *lab) small(name, head string) string { return l.file(name, head, 20_000, 8192, 512) }

func sumOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// holds checks that an image, or a snapshot of one, has the content of a file, and zeros to the end of its last page.
func (l *lab) holds(image, path string) {
	l.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	got := l.rbd("export", "--no-progress", image, "-")
	if len(got)%4096 != 0 || len(got)-len(want) > 4095 || !bytes.Equal([]byte(got[:len(want)]), want) || strings.Trim(got[len(want):], "\x00") != "" {
		l.Errorf("%s, %d bytes long, does not hold what %s does", image, len(got), path)
	}
}

// list gives what windlass-ceph lists.
func (l *lab) list(pool string) map[string]rbd.Info {
	l.Helper()
	var list []rbd.Info
	if err := json.Unmarshal([]byte(l.run(0, []string{"list", pool, "--json"}).out.String()), &list); err != nil {
		l.Fatal(err)
	}
	byName := map[string]rbd.Info{}
	for _, i := range list {
		byName[i.Name.Image] = i
	}
	return byName
}

// only fails the test when images whose names begin so are others than these.
func (l *lab) only(prefix string, want ...string) {
	l.Helper()
	var got []string
	for name := range l.list("rbd:rbd") {
		if strings.HasPrefix(name, prefix) {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		l.Errorf("there are %q, want %q", got, want)
	}
}

// testPublish publishes 200 MB with holes and looks at everything.
func testPublish(l *lab) {
	path := l.file("big.sqsh", "big", 200_000_001, 20<<20, 1<<20)
	p := l.run(0, []string{"publish", path, "rbd:rbd/big@v7"})
	l.holds("rbd/big@v7", path)
	for _, want := range []string{"writing  10 %", "writing  50 %", "writing  100 %", "verifying  100 %"} {
		if !strings.Contains(p.err.String(), want) {
			l.Errorf("the progress does not say %q:\n%s", want, p.err.String())
		}
	}
	if n := strings.Count(p.err.String(), "\n"); n > 25 || strings.ContainsRune(p.err.String(), '\r') {
		l.Errorf("%d lines of progress are too many for a log, or a bar is among them:\n%s", n, p.err.String())
	}
	if info := l.rbd("info", "rbd/big"); !strings.Contains(info, "features: layering\n") || !strings.Contains(info, "order 22") {
		l.Error(info)
	}
	_, prefix, _ := strings.Cut(l.rbd("info", "rbd/big"), "block_name_prefix: ")
	prefix, _, _ = strings.Cut(prefix, "\n")
	if objects := strings.Count(l.rados("-p", "rbd", "ls"), prefix); objects == 0 || objects > 20 {
		l.Errorf("%d objects for 10 MB in 200: zeros were written", objects)
	}
	info := l.list("rbd:rbd")["big"]
	if info.State != rbd.Published || info.Digest != sumOf(l.T, path) || info.Length != 200_000_001 || info.Size != 200_003_584 || info.Source != "big.sqsh" {
		l.Errorf("it is listed as %+v", info)
	}
	if info.Holds != "squashfs" || info.Published == nil || time.Since(*info.Published) > time.Hour || !strings.Contains(info.Publisher, "@") {
		l.Errorf("it is listed as %+v", info)
	}
	if len(info.Snapshots) != 1 || info.Snapshots[0].Name != "v7" || !info.Snapshots[0].Protected || len(info.Watchers) > 0 {
		l.Errorf("it is listed as %+v", info)
	}
	if !strings.Contains(p.out.String(), sumOf(l.T, path)+", read back and compared") {
		l.Error(p.out.String())
	}
	var m models.Mount
	if err := json.Unmarshal([]byte(p.out.String()[strings.Index(p.out.String(), "{"):]), &m); err != nil {
		l.Fatal(err)
	}
	if err := m.Validate(strfmt.Default); err != nil {
		l.Error(err)
	}
	r := m.Attach.Attach.Rbd
	if *m.Attach.FsType != "squashfs" || *r.Pool != "rbd" || *r.Image != "big" || r.Snapshot != "v7" || !slices.Equal(r.Monitors, []string{"10.99.0.1"}) {
		l.Errorf("nodes are told %s", p.out.String())
	}
}

func (l *lab) rados(args ...string) string {
	l.Helper()
	out, err := l.ceph.Run(l.ctx, nil, "rados", args...)
	if err != nil {
		l.Fatal(err)
	}
	return string(out)
}

// testPublishSmall: what is no whole page is padded, also when nothing but zeros follow, and JSON says all.
func testPublishSmall(l *lab) {
	for _, length := range []int64{4, 4095, 4096, 4097, 5000} {
		name := fmt.Sprintf("small%d", length)
		path := l.file(name, "", length, 0, 0)
		p := l.run(0, []string{"publish", path, "rbd:rbd/" + name, "--json", "--quiet"})
		l.holds("rbd/"+name+"@v1", path)
		var r struct {
			rbd.Result
			Definition models.Mount
		}
		if err := json.Unmarshal([]byte(p.out.String()), &r); err != nil {
			l.Fatal(err)
		}
		if r.Digest != sumOf(l.T, path) || r.Length != length || r.Size != uint64(length+4095)/4096*4096 || !r.Verified || r.Name.Snapshot != "v1" {
			l.Errorf("%d bytes: %s", length, p.out.String())
		}
		if p.err.String() != "" {
			l.Errorf("it is not quiet: %s", p.err.String())
		}
	}
}

func testPublishFlags(l *lab) {
	path := l.small("flags", "x")
	l.run(0, []string{"publish", path, "rbd:rbd/flags", "--no-snapshot", "--features", "layering,exclusive-lock", "--object-size", "1MiB", "--no-verify", "-j", "1"})
	l.holds("rbd/flags", path)
	if info := l.rbd("info", "rbd/flags"); !strings.Contains(info, "features: layering, exclusive-lock\n") || !strings.Contains(info, "order 20") {
		l.Error(info)
	}
	if got := l.list("rbd:rbd")["flags"]; len(got.Snapshots) != 0 {
		l.Errorf("%+v", got)
	}
	for want, args := range map[string][]string{
		`feature "speed" is none of`:        {path, "rbd:rbd/f2", "--features", "speed"},
		"power of two":                      {path, "rbd:rbd/f2", "--object-size", "5MiB"},
		`--object-size "much" is no size`:   {path, "rbd:rbd/f2", "--object-size", "much"},
		"--no-snapshot wants none":          {path, "rbd:rbd/f2@v1", "--no-snapshot"},
		"does not say pool and image":       {path, "rbd:f2"},
		"does not begin with rbd:":          {path, "rbd/f2"},
		"--jobs 0":                          {path, "rbd:rbd/f2", "-j", "0"},
		"unknown flag: --secret":            {path, "rbd:rbd/f2", "--secret", "x"},
		"accepts 2 arg(s), received 1":      {path},
		"is no file":                        {l.dir, "rbd:rbd/f2"},
		"not in use; take another":          {path, "rbd:rbd/f2.windlass-part-12345678"},
		"mksquashfs":                        {l.dir, "rbd:rbd/f2"},
		"See 'windlass-ceph publish --help": {path},
	} {
		l.run(2, append([]string{"publish"}, args...), want)
	}
	l.run(3, []string{"publish", filepath.Join(l.dir, "missing"), "rbd:rbd/f2"}, "missing: no such file")
	empty := filepath.Join(l.dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		l.Fatal(err)
	}
	l.run(2, []string{"publish", empty, "rbd:rbd/f2"}, "is empty")
	l.run(3, []string{"publish", path, "rbd:rbd/f2", "--data-pool", "nowhere"}, "data pool nowhere")
	l.only("f2")
}

func testExists(l *lab) {
	first, second := l.small("e1", "first"), l.small("e2", "second")
	l.run(0, []string{"publish", first, "rbd:rbd/exists"})
	l.run(4, []string{"publish", second, "rbd:rbd/exists"}, "there is such an image", "--replace")
	l.holds("rbd/exists@v1", first)
	l.only("exists", "exists")
}

// testReplace: who reads the old image goes on reading it.
func testReplace(l *lab) {
	first, second := l.small("r1", "first-"), l.small("r2", "second")
	l.run(0, []string{"publish", first, "rbd:rbd/replace"})
	reader := l.hold("replace", "v1", false)
	p := l.run(0, []string{"publish", second, "rbd:rbd/replace", "--replace", "--json"})
	l.holds("rbd/replace@v1", second)
	if got := reader.head(); !strings.Contains(got, "first-") {
		l.Errorf("who had the old image open reads %s", got)
	}
	var r rbd.Result
	if err := json.Unmarshal([]byte(p.out.String()), &r); err != nil {
		l.Fatal(err)
	}
	old, err := rbd.ParseName(r.Replaced)
	if err != nil {
		l.Fatal(err)
	}
	if got := l.list("rbd:rbd")[old.Image]; got.State != rbd.Replaced || got.Of != "replace" || got.Digest != sumOf(l.T, first) {
		l.Errorf("the old image is listed as %+v", got)
	}
	l.only("replace", "replace", old.Image)
	l.run(0, []string{"publish", first, "rbd:rbd/replace@v9", "--replace", "--remove-replaced"})
	l.holds("rbd/replace@v9", first)
	l.run(0, []string{"remove", "--force", r.Replaced})
	l.only("replace", "replace")
}

func testReplaceOpen(l *lab) {
	first, second := l.small("ro1", "first-"), l.small("ro2", "second")
	l.run(0, []string{"publish", first, "rbd:rbd/open", "--no-snapshot"})
	l.hold("open", "", true)
	l.run(4, []string{"publish", second, "rbd:rbd/open", "--replace"}, "open to write, by 10.99.0.1:0/", "--force")
	l.holds("rbd/open", first)
	l.only("open", "open")
	l.run(0, []string{"publish", second, "rbd:rbd/open", "--replace", "--force"})
	l.holds("rbd/open@v1", second)
}
