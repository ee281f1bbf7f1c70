package config

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

// load puts a configuration together from a file's text, variables and flags.
func load(t *testing.T, file string, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	flags, set := &Flags{}, pflag.NewFlagSet("serve", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	flags.Register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	if flags.File == "" { // never the machine's own
		flags.File = filepath.Join(t.TempDir(), "windlass.yaml")
		if err := os.WriteFile(flags.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(flags, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestTheStrongerSourceWins(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		env  map[string]string
		args []string
		want func(*Config)
	}{
		"nothing said":           {want: func(*Config) {}},
		"file":                   {file: "run_dir: /run/a\n", want: func(c *Config) { c.RunDir = "/run/a" }},
		"variable over file":     {file: "run_dir: /run/a\n", env: map[string]string{"WINDLASS_RUN_DIR": "/run/b"}, want: func(c *Config) { c.RunDir = "/run/b" }},
		"flag over variable":     {env: map[string]string{"WINDLASS_RUN_DIR": "/run/b"}, args: []string{"--run-dir=/run/c"}, want: func(c *Config) { c.RunDir = "/run/c" }},
		"empty variable is none": {env: map[string]string{"WINDLASS_RUN_DIR": ""}, want: func(*Config) {}},
		"Kraken's boot script": {args: []string{"--host", "127.0.0.1", "--scheme", "http"},
			want: func(c *Config) { c.Schemes = []string{"http"} }},
		"schemes repeated": {args: []string{"--scheme", "unix", "--scheme", "http", "--port=0"},
			want: func(c *Config) { c.Schemes, c.Port = []string{"unix", "http"}, 0 }},
		"schemes in the file": {file: "scheme: [http, unix]\n", want: func(c *Config) { c.Schemes = []string{"http", "unix"} }},
		"forerunner's variables": {env: map[string]string{"HOST": "::1", "PORT": "81", "TLS_PORT": "junk"}, args: []string{"--scheme=http"},
			want: func(c *Config) { c.Schemes, c.Host, c.Port = []string{"http"}, "::1", 81 }},
		"they say nothing without the scheme": {env: map[string]string{"HOST": "node7", "PORT": "tcp://10.0.0.1:80"}, want: func(*Config) {}},
		"our variable over the forerunner's": {env: map[string]string{"PORT": "81", "WINDLASS_PORT": "82"}, args: []string{"--scheme=http"},
			want: func(c *Config) { c.Schemes, c.Port = []string{"http"}, 82 }},
		"sizes and times": {file: "max_body: 2MiB\nlog_size: 65536\nstop_timeout: 1m\ninsecure_http: true\n",
			want: func(c *Config) {
				c.MaxBody, c.LogSize, c.StopTimeout, c.InsecureHTTP = 2<<20, 64<<10, time.Minute, true
			}},
		"rbd without end": {file: "rbd_request_timeout: 0s\nrbd_mount_timeout: 10s\ncredentials_dir: /root/s\n",
			want: func(c *Config) {
				c.RBDRequestTimeout, c.RBDMountTimeout, c.CredentialsDir = 0, 10*time.Second, "/root/s"
			}},
		"flag without value": {args: []string{"--insecure-http"}, want: func(c *Config) { c.InsecureHTTP = true }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := load(t, tc.file, tc.env, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			tc.want(&want)
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
		})
	}
}

func TestTLSFilesAreTakenFromTheForerunnersVariables(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"TLS_CERTIFICATE": "crt", "TLS_PRIVATE_KEY": "key", "TLS_CA_CERTIFICATE": "ca", "TLS_HOST": "10.0.0.1"}
	for _, name := range []string{"crt", "key", "ca"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"TLS_CERTIFICATE", "TLS_PRIVATE_KEY", "TLS_CA_CERTIFICATE"} {
		env[k] = filepath.Join(dir, env[k])
	}
	c, err := load(t, "", env, "--scheme=https")
	if err != nil {
		t.Fatal(err)
	}
	if c.TLSKey != env["TLS_PRIVATE_KEY"] || c.TLSCA != env["TLS_CA_CERTIFICATE"] || c.HTTPSHost() != "10.0.0.1" || c.TLSPort != 8443 {
		t.Fatalf("got %+v", c)
	}
}

func TestEveryProblemIsToldAtOnceAndWhereItIs(t *testing.T) {
	file := `scheme: [http, https]
hots: 1.2.3.4
run_dir: run
port: many
log_level: wran
cgroup_parent: ../..
max_body: lots
port: 1
stop_timeout:
`
	_, err := load(t, file, map[string]string{"WINDLASS_STEP_TIMEOUT": "soon"}, "--idle-timeout=-1s", "--host=0.0.0.0")
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	wants := []string{
		"windlass.yaml:2: unknown key hots (did you mean host",
		`windlass.yaml:4: port: "many" is not a whole number`,
		"windlass.yaml:8: port is there twice, first at",
		"windlass.yaml:9: stop_timeout: the value is missing",
		`windlass.yaml:7: max_body: "lots" is not a size`,
		`environment variable WINDLASS_STEP_TIMEOUT: "soon" is not a duration`,
		`flag --idle-timeout: "-1s" is not a duration`,
		`run_dir: "run" is not an absolute path`,
		`log_level: "wran" is none of error, warn, info, debug, trace (did you mean warn?)`,
		`cgroup_parent: "../.." is not the path of a cgroup`,
		"host: 0.0.0.0 lets other machines in",
		"tls_certificate: needed for scheme https",
		"tls_key: needed for scheme https",
		"tls_host: 0.0.0.0 lets other machines in, and without tls_ca",
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not told: %s", want)
		}
	}
	if len(problems) != len(wants) {
		t.Errorf("%d problems, want %d:\n%v", len(problems), len(wants), err)
	}
}

func TestBadConfigurations(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		args []string
		want string
	}{
		"no such file":        {args: []string{"--config=/nonexistent/w.yaml"}, want: "open /nonexistent/w.yaml: no such file"},
		"not a mapping":       {file: "- a\n", want: "windlass.yaml:1: the file must be a mapping"},
		"not YAML":            {file: "a: [\n", want: "line"},
		"nested":              {file: "host: {a: b}\n", want: "host: the value must be a plain word"},
		"unknown scheme":      {args: []string{"--scheme=htps"}, want: `scheme: "htps" is none of unix, http, https (did you mean https?)`},
		"scheme twice":        {args: []string{"--scheme=http", "--scheme=http"}, want: "scheme: http is there twice"},
		"no scheme":           {args: []string{"--scheme="}, want: "scheme: there must be at least one"},
		"long socket":         {args: []string{"--socket-path=/" + strings.Repeat("x", 107)}, want: "108 bytes is too long for a unix socket"},
		"port too high":       {args: []string{"--scheme=http", "--port=65536"}, want: "port: 65536 is not a port"},
		"all addresses":       {args: []string{"--scheme=http", "--host="}, want: "host: every address lets other machines in"},
		"step beyond create":  {args: []string{"--step-timeout=61s"}, want: "step_timeout: 1m1s is longer than create_timeout, 50s"},
		"no time":             {args: []string{"--idle-timeout=0s"}, want: "idle_timeout: it must be longer than nothing"},
		"tiny body":           {args: []string{"--max-body=1"}, want: "max_body: 1 is too small; 4K is the least"},
		"missing CA":          {args: []string{"--uri-ca=/nonexistent"}, want: "uri_ca: open /nonexistent: no such file"},
		"cache nowhere":       {args: []string{"--chunkfs-cache=cache"}, want: `chunkfs_cache: "cache" is not an absolute path`},
		"cache everywhere":    {args: []string{"--chunkfs-cache=//"}, want: "chunkfs_cache: it cannot be the root directory"},
		"tiny cache":          {args: []string{"--chunkfs-cache-size=1M"}, want: "chunkfs_cache_size: 1M is too small; 16M is the least"},
		"credentials nowhere": {args: []string{"--credentials-dir=secrets"}, want: `credentials_dir: "secrets" is not an absolute path`},
		"half a second":       {args: []string{"--rbd-request-timeout=1500ms"}, want: "rbd_request_timeout: 1.5s is no whole number of seconds"},
		"no time to map":      {args: []string{"--rbd-mount-timeout=0"}, want: "rbd_mount_timeout: it must be longer than nothing"},
		"directory for a CA":  {args: []string{"--uri-ca=/"}, want: "uri_ca: / is not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tc.file, nil, tc.args...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestWhatIsShownReadsBackTheSame(t *testing.T) {
	want, err := load(t, "", nil, "--scheme=unix,http", "--log-size=1536K", "--create-timeout=2h", "--insecure-http", "--shim=/a: b #c")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := want.WriteYAML(&text); err != nil {
		t.Fatal(err)
	}
	got, err := load(t, text.String(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s\n%s", d, text.String())
	}
	if len(want.Fields()) != len(settings()) {
		t.Fatal("a field is missing from the log")
	}
}

func TestTheExampleFileHasEveryKeyAtItsDefault(t *testing.T) {
	const path = "../../docs/windlass.yaml"
	var want bytes.Buffer
	if err := WriteExample(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.String(), string(got)); d != "" {
		t.Fatalf("docs/windlass.yaml is not up to date (go test ./internal/config -update):\n%s", d)
	}
	var text strings.Builder
	for line := range strings.Lines(string(got)) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
			text.WriteString(rest)
		}
	}
	c, err := load(t, text.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), c); d != "" {
		t.Fatal(d)
	}
	if n := strings.Count(text.String(), "\n"); n != len(settings()) {
		t.Fatalf("%d keys in the file, want %d", n, len(settings()))
	}
}
