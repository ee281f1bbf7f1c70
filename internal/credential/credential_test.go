package credential_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
)

const secret = "AQBSECRETSECRETSECRETSECRETSECRETSECRET=="

func TestValidate(t *testing.T) {
	for what, tt := range map[string]struct {
		source credential.Source
		says   string // "" for what is fine
	}{
		"nothing":                {credential.Source{}, ""},
		"a secret":               {credential.Source{Secret: secret}, ""},
		"a file":                 {credential.Source{File: "/etc/ceph/key"}, ""},
		"a name":                 {credential.Source{Name: "ceph-1_a.key"}, ""},
		"two":                    {credential.Source{Secret: secret, Name: "a"}, "rbd.options: only one of secret, secret_file and credential"},
		"two others":             {credential.Source{File: "/a", Name: "a"}, "only one"},
		"a relative file":        {credential.Source{File: "etc/key"}, "rbd.options.secret_file"},
		"a file with dots":       {credential.Source{File: "/etc/../key"}, "rbd.options.secret_file"},
		"a file with NUL":        {credential.Source{File: "/etc/key\x00"}, "NUL"},
		"a name with a slash":    {credential.Source{Name: "a/b"}, "rbd.options.credential"},
		"a name of dots":         {credential.Source{Name: ".."}, "rbd.options.credential"},
		"a hidden name":          {credential.Source{Name: ".a"}, "rbd.options.credential"},
		"a name with a new line": {credential.Source{Name: "a\n"}, "rbd.options.credential"},
		"a name too long":        {credential.Source{Name: strings.Repeat("a", 129)}, "rbd.options.credential"},
		"a secret too long":      {credential.Source{Secret: strings.Repeat("a", credential.Max+1)}, "rbd.options.secret"},
	} {
		t.Run(what, func(t *testing.T) {
			err := tt.source.Validate("rbd.options")
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want invalid that says %q", err, tt.says)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes the secret: %v", err)
			}
		})
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(content), mode))
		must(t, os.Chmod(path, mode))
		return path
	}
	good := write("good", secret+"\n", 0o600)
	must(t, os.Symlink(good, filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	alien := write("alien", secret, 0o600)
	if os.Geteuid() == 0 {
		must(t, os.Chown(alien, 65534, 65534))
	}
	write("group", secret, 0o640)
	write("others", secret, 0o604)
	write("writable", secret, 0o620)
	write("empty", "\n", 0o600)
	write("large", secret+strings.Repeat("x", credential.Max), 0o600)
	write("plain", secret, 0o400)
	write("crlf", secret+"\r\n", 0o600)
	write("lines", "[client.a]\n\tkey = "+secret+"\n", 0o600)

	for what, store := range map[string]credential.Store{"in this process": {Dir: dir}, "by a helper": {Dir: dir, Helper: helper.New(helpertest.Shim(t))}} {
		t.Run(what, func(t *testing.T) { readAll(t, store) })
	}
}

func readAll(t *testing.T, store credential.Store) {
	dir := store.Dir
	for name, want := range map[string]string{
		"good": secret, "plain": secret, "crlf": secret, "lines": "[client.a]\n\tkey = " + secret,
	} {
		for _, src := range []credential.Source{{Name: name}, {File: filepath.Join(dir, name)}} {
			if got, err := store.Read(src); err != nil || got != want {
				t.Errorf("%+v: %q, %v; want %q", src, got, err, want)
			}
		}
	}
	for name, want := range map[string]struct {
		kind fault.Kind
		says string
	}{
		"missing":   {fault.NotFound, "there is no"},
		"link":      {fault.Invalid, "symbolic link"},
		"directory": {fault.Invalid, "is a directory"},
		"fifo":      {fault.Invalid, "is a fifo"},
		"group":     {fault.Invalid, "open to others (mode 0640)"},
		"others":    {fault.Invalid, "open to others (mode 0604)"},
		"writable":  {fault.Invalid, "open to others (mode 0620)"},
		"alien":     {fault.Invalid, "belongs to user 65534"},
		"empty":     {fault.Invalid, "is empty"},
		"large":     {fault.Invalid, "more than"},
	} {
		if name == "alien" && os.Geteuid() != 0 {
			t.Log("NOT TESTED: a file of another user needs root")
			continue
		}
		for _, src := range []credential.Source{{Name: name}, {File: filepath.Join(dir, name)}} {
			got, err := store.Read(src)
			if got != "" || !fault.Is(err, want.kind) || !strings.Contains(err.Error(), want.says) || !strings.Contains(err.Error(), name) {
				t.Errorf("%+v: %q, %v; want %s that says %q", src, got, err, want.kind, want.says)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes the secret: %v", err)
			}
		}
	}
}

// TestWhatTheKernelMakesUp is refused: it is root's alone, and to read it may do something.
func TestWhatTheKernelMakesUp(t *testing.T) {
	for _, file := range []string{"/proc/self/environ", "/proc/kmsg"} {
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil {
			continue
		}
		if got, err := (credential.Store{}).Read(credential.Source{File: file}); got != "" || !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %d bytes, %v", file, len(got), err)
		}
	}
}

// TestReadOfWhatDoesNotAnswer: it comes back, and one helper is left however often it is asked.
func TestReadOfWhatDoesNotAnswer(t *testing.T) {
	h := helpertest.NewHang(t)
	store := credential.Store{Helper: helper.New(helpertest.Shim(t))}
	for range 3 {
		if got, err := store.Read(credential.Source{File: h.Path}); got != "" || !fault.Is(err, fault.Timeout) || !strings.Contains(err.Error(), "stuck: ") ||
			!strings.Contains(err.Error(), "secret file "+h.Path) {
			t.Errorf("%q, %v (%s)", got, err, fault.KindOf(err))
		}
	}
	if left := store.Helper.Left(); len(left) != 1 {
		t.Errorf("left are %+v", left)
	}
}

func TestReadOfTheRequest(t *testing.T) {
	for _, want := range []string{"", secret} {
		if got, err := (credential.Store{}).Read(credential.Source{Secret: want}); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

func TestReadChecksTheName(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "outside"), []byte(secret), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "credentials"), 0o700))
	store := credential.Store{Dir: filepath.Join(dir, "credentials")}
	if got, err := store.Read(credential.Source{Name: "../outside"}); got != "" || !fault.Is(err, fault.Invalid) {
		t.Errorf("%q, %v", got, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
