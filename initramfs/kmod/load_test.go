package kmod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// fakeKernel notes what it is given.
type fakeKernel struct {
	mu    sync.Mutex
	given []string
	lives map[string]bool
	fails map[string]error
}

func (k *fakeKernel) live(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lives[name]
}

func (k *fakeKernel) load(file, params string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := moduleName(file)
	k.given = append(k.given, strings.TrimSpace(name+" "+params))
	if err := k.fails[name]; err != nil {
		return err
	}
	if k.lives[name] {
		return errors.New("it is there")
	}
	k.lives[name] = true
	return nil
}

// packed writes the index of all modules of the directory and gives a loader for it.
func packed(t *testing.T, opts Options, load ...string) (*Loader, *fakeKernel) {
	t.Helper()
	dir := storage(t)
	d := opened(t, dir)
	s, err := d.Resolve(Request{Wanted: []string{"rbd", "nic", "crc32c"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, IndexName), d.Index(s, "1.2.3-test", load).Text(), 0o644); err != nil {
		t.Fatal(err)
	}
	k := &fakeKernel{lives: map[string]bool{}, fails: map[string]error{}}
	l, err := openLoader(dir, opts, k)
	if err != nil {
		t.Fatal(err)
	}
	return l, k
}

func (k *fakeKernel) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(k.given, want) {
		t.Errorf("the kernel was given\n%q, not\n%q", k.given, want)
	}
	k.given = nil
}

func TestLoadGivesTheKernelWhatIsNeeded(t *testing.T) {
	ctx := context.Background()
	l, k := packed(t, CommandLine("quiet rbd.single_major=0 libceph.x trace-rbd.y=2"), "nic")
	for _, name := range []string{"ext4", "fs-ext4"} {
		if err := l.Load(ctx, name); err != nil {
			t.Errorf("%s, which is built in: %v", name, err)
		}
	}
	k.want(t)
	if err := l.Load(ctx, "rbd-dev", "more=1"); err != nil {
		t.Fatal(err)
	}
	k.want(t, "crc32c_soft", "crc32c_intel", "libcrc32c", "dns_resolver", "libceph x", "rbd single_major=0 more=1", "trace_rbd y=2")
	if err := l.Load(ctx, "rbd"); err != nil {
		t.Fatal(err)
	}
	k.want(t)
	if err := l.Load(ctx, "pci:v00008086d00004aaasv0000"); err != nil {
		t.Fatal(err)
	}
	k.want(t, "nic")
	if err := l.Load(ctx, "lib-ceph"); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Errorf("a mistyped one: %v", err)
	}
	if got := l.Start(); !slices.Equal(got, []string{"nic"}) || !l.Has("fs-ext4") || l.Has("fs-xfs") {
		t.Errorf("got %q", got)
	}
}

func TestHardwareThatIsNotThere(t *testing.T) {
	ctx := context.Background()
	l, k := packed(t, Options{})
	k.fails["crc32c_intel"] = unix.ENODEV
	var told []string
	l.Told = func(d Loaded) { told = append(told, fmt.Sprintf("%s %v %v", d.Name, d.Err != nil, d.May)) }
	if err := l.Load(ctx, "libcrc32c"); err != nil {
		t.Errorf("a soft dependency that fails: %v", err)
	}
	k.want(t, "crc32c_soft", "crc32c_intel", "libcrc32c")
	if !slices.Equal(told, []string{"crc32c_soft false true", "crc32c_intel true true", "libcrc32c false false"}) {
		t.Errorf("told %q", told)
	}
	if err := l.Load(ctx, "crypto-crc32c"); err != nil {
		t.Errorf("one of two that answer: %v", err)
	}
	err := l.Load(ctx, "crc32c-intel")
	if !errors.Is(err, unix.ENODEV) || !fault.Is(err, fault.Unsupported) {
		t.Errorf("by name: %v", err)
	}
	k.fails["dns_resolver"] = unix.ENOEXEC
	if err := l.Load(ctx, "rbd"); !errors.Is(err, unix.ENOEXEC) || !strings.Contains(err.Error(), "load module dns_resolver") {
		t.Errorf("a hard dependency that fails: %v", err)
	}
}

func TestABlockedModuleIsLoadedByNameOnly(t *testing.T) {
	l, k := packed(t, CommandLine("modprobe.blacklist=nic,x"))
	if err := l.Load(context.Background(), "pci:v00008086d00004aaasv0000"); err != nil {
		t.Error(err)
	}
	k.want(t)
	if err := l.Load(context.Background(), "nic"); err != nil {
		t.Error(err)
	}
	k.want(t, "nic")
}

func TestManyAtOnceLoadEachOnce(t *testing.T) {
	l, k := packed(t, Options{})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if err := l.Load(context.Background(), []string{"rbd", "trace-rbd", "crypto-crc32c", "libceph"}[i%4]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(k.given)
	k.want(t, "crc32c_intel", "crc32c_soft", "dns_resolver", "libceph", "libcrc32c", "rbd", "trace_rbd")
}

func TestTheCommandLine(t *testing.T) {
	o := CommandLine(`root=/dev/x.y a.b=1 A-B.c d.e="x y" "f.g=u v" "h.i" ds=nocloud;s=http://1.2/ .x=1 y.=2 modprobe.blacklist=p-q,r -- z.z=1`)
	got := fmt.Sprint(o.Params, o.Block)
	want := `map[A_B:[c] a:[b=1] d:[e="x y"] f:[g="u v"] h:[i]] map[p_q:true r:true]`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAnIndexIsReadAsItWasWritten(t *testing.T) {
	d := debian(t)
	s, err := d.Resolve(Request{All: true})
	if err != nil {
		t.Fatal(err)
	}
	text := d.Index(s, "6.1", []string{"loop", "nbd"}).Text()
	x, err := ParseIndex(text)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x.Text(), text) || x.Release != "6.1" || len(x.Load) != 2 || len(x.Modules) != len(s.Modules) {
		t.Errorf("%d modules of %d", len(x.Modules), len(s.Modules))
	}
	t.Logf("the index of all modules has %d bytes", len(text))
}

func TestABadIndexIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                             "no index",
		"windlass modules 2\n":                         "no index",
		indexHead + "\nfoo bar\n":                      `line 2 of the index of modules: nobody knows the word "foo"`,
		indexHead + "\n\tneeds a\n":                    "without a module",
		indexHead + "\nmodule a ../a.ko\n":             "no file of module a",
		indexHead + "\nmodule a /a.ko\n":               "no file of module a",
		indexHead + "\nmodule a a.so\n":                "no file of module a",
		indexHead + "\nmodule a-b x/a.ko\n":            "no name of a module",
		indexHead + "\nmodule a a.ko\nmodule a a.ko\n": "there twice",
	} {
		if _, err := ParseIndex([]byte(text)); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// FuzzIndex loads by whatever index there may be, by each of its names.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(indexHead + "\nkernel 1\nload a\nbuilt-in b\nanswers fs-*\nmodule a k/a.ko\n\tneeds b c\n\tbefore c\n\tafter a\n\talias x*\nmodule c c.ko\n\tneeds a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := ParseIndex(text)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Errorf("got %v", err)
			}
			return
		}
		if len(x.Modules) > 50 {
			return
		}
		k := &fakeKernel{lives: map[string]bool{}}
		l := &Loader{dir: "/m", index: x, sys: k, locks: map[string]*sync.Mutex{}}
		for _, m := range x.Modules {
			_ = l.Load(context.Background(), m.Name)
		}
		if len(k.given) > len(x.Modules) {
			t.Errorf("%q", k.given)
		}
	})
}

func TestModprobe(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{nil, 2, "say which module"},
		{[]string{"-x", "a"}, 2, "no option -x"},
		{[]string{"-h"}, 0, "usage: modprobe"},
		{[]string{"-q", "--", "fs-nothing"}, 1, ""},
		{[]string{"fs-nothing"}, 1, "no modules for the running kernel"},
	} {
		var out bytes.Buffer
		if code := Modprobe(context.Background(), c.args, t.TempDir(), &out, &out); code != c.code || !strings.Contains(out.String(), c.text) ||
			c.text == "" && out.Len() > 0 {
			t.Errorf("%q: got %d, %q", c.args, code, out.String())
		}
	}
	l, k := packed(t, Options{})
	var out bytes.Buffer
	call, err := parseCall([]string{"-va", "nic", "crc32c-intel", "nope"})
	if err != nil {
		t.Fatal(err)
	}
	if code := call.run(context.Background(), l, &out, &out); code != 1 || !strings.Contains(out.String(), "loaded nic in ") ||
		!strings.Contains(out.String(), "there is no module nope") {
		t.Errorf("got %d, %q", code, out.String())
	}
	k.want(t, "nic", "crc32c_intel")
	out.Reset()
	if call, err = parseCall([]string{"-D", "libcrc32c"}); err != nil {
		t.Fatal(err)
	}
	if code := call.run(context.Background(), l, &out, &out); code != 0 || strings.Count(out.String(), "insmod ") != 3 {
		t.Errorf("got %d, %q", code, out.String())
	}
	k.want(t)
}

func TestTheHintNamesTheKernelThatItWasBuiltFor(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/lib/modules/0.0.1-other", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/lib/modules/0.0.1-other/"+IndexName, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLoader(root, Options{}); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), "0.0.1-other") {
		t.Errorf("got %v", err)
	}
}

func FuzzCommandLine(f *testing.F) {
	f.Add(`a.b=1 "c.d=x y" e.f="g h" modprobe.blacklist=i,j -- k.l`)
	f.Fuzz(func(t *testing.T, text string) {
		for module, params := range CommandLine(text).Params {
			if module != Plain(module) || !name(module) {
				t.Errorf("module %q", module)
			}
			for _, p := range params {
				if p == "" || !strings.Contains(text, strings.Trim(p[:1], `"`)) {
					t.Errorf("parameter %q of %q", p, module)
				}
			}
		}
	})
}
