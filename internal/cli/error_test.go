package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/config"
)

func TestWrongUsageIsToldBeforeTheDaemonIsAsked(t *testing.T) {
	for args, want := range map[string]string{
		"pss":                                          "unknown command \"pss\"",
		"ps --staet running":                           "unknown flag: --staet\nSee 'windlass ps --help'.",
		"ps volumes":                                   `invalid argument "volumes"`,
		"ps mounts --state running":                    "--state is for containers",
		"ps --kind overlay":                            "--kind is for mounts and attachments",
		"ps -o xml":                                    `--output: "xml" is none of table, json, yaml`,
		"ps --timeout soon":                            "invalid argument \"soon\"",
		"ps --url ftp://h":                             `--url: "ftp://h" is none of http://HOST:PORT`,
		"ps --url unix://relative":                     `is none of http://HOST:PORT, https://HOST:PORT, unix:///PATH`,
		"ps --url http://h --socket /s":                "--socket and --url exclude each other",
		"ps --url https://h --cert c":                  "--cert and --key go together",
		"ps --url https://h --cacert /none":            "--cacert: open /none: no such file",
		"stop":                                         "which? Give an ID or NAME",
		"stop --time -1s web":                          "--time: it cannot be less than nothing",
		"wait --condition done web":                    `--condition: "done" is none of ended, ready, running`,
		"attach zfs":                                   `unknown kind "zfs"`,
		"attach loopback":                              "accepts 1 arg(s), received 0",
		"attach loopback a --offset much":              "write it as 64K, 512M or 1G",
		"mount attach --fs-type ext4":                  "give one of --id, --loopback, --local",
		"mount attach --id 3 --local /dev/sdb":         "give one of --id, --loopback, --local",
		"mount attach --id 3":                          "--fs-type: which?",
		"mount overlay":                                "--lower: give the id of at least one mount",
		"mount overlay --lower web":                    "invalid argument \"web\"",
		"mount chunkfs http://h/s":                     `"http://h/s" does not say which image of which store: write STORE#IMAGE`,
		"mount chunkfs /s#a --token-file /none":        "open /none: no such file or directory",
		"mount bind rel --url http://127.0.0.1":        "the daemon at http://127.0.0.1 is not on this node: give an absolute path there",
		"attach rbd rbd --monitor a":                   `"rbd" does not say which image of which pool`,
		"attach rbd a/b@ --monitor a":                  "does not say which image",
		"attach rbd a/b":                               "--monitor: give at least one",
		"attach rbd a/b --monitor m --option exclusiv": `there is no option "exclusiv"; did you mean exclusive?`,
		"attach rbd a/b --monitor m --option queue_depth=deep":      `option queue_depth: "deep" is not a whole number`,
		"attach rbd a/b --monitor m --option secret=hush":           "secret is nothing for a command line",
		"attach rbd a/b --monitor m --secret-file /none":            "--secret-file: open /none",
		"attach rbd a/b --monitor m --secret-file /dev/null":        "there is nothing in /dev/null",
		"attach rbd a/b --monitor m --secret-file x --credential y": "--secret-file and --credential exclude each other",
		"attach iscsi iqn.t":                                                 "--host and --initiator",
		"attach iscsi iqn.t --host h:p --initiator i":                        `--host: "h:p" is not HOST or HOST:PORT`,
		"attach iscsi iqn.t --host h --initiator i --chap-user me":           "give the secret of me by --chap-secret-file or --chap-credential",
		"attach iscsi iqn.t --host h --initiator i --mutual-chap-credential": "flag needs an argument",
		"attach iscsi iqn.t --host h --initiator i --chap-credential c":      "--chap-user: a secret is given, and not whose it is",
		"mount nfs head":   `"head" does not say which export of which server`,
		"iscsi discover h": "--initiator: say who this node is",
		"iscsi discover h:x --initiator iqn.2026-01.org.example:n": "is not HOST or HOST:PORT",
		"iscsi discovr h":   `unknown command "discovr"`,
		"logs web db":       "accepts 1 arg(s), received 2",
		"events --since -1": "--since: it cannot be less than nothing",
		"config check a b":  "accepts at most 1 arg(s)",
		"config chekc":      "unknown command \"chekc\"",
	} {
		t.Run(args, func(t *testing.T) {
			d := newDaemon(t)
			words := append([]string{"windlass"}, strings.Fields(args)...)
			env := map[string]string{}
			if !strings.Contains(args, "--url") {
				env["WINDLASS_SOCKET"] = d.socket
			}
			run(t, env, nil, words...).want(t, exitUsage, want)
			if len(d.asked) != 0 {
				t.Fatal(d.asked)
			}
		})
	}
}

func TestExecAndRunKeepTheProcesssCodesFree(t *testing.T) {
	d := newDaemon(t)
	for args, want := range map[string]string{
		"exec web":                                  "give a container and a command",
		"exec -x web true":                          "unknown shorthand flag",
		"exec -e =1 web true":                       `--env: "=1" is not KEY=VALUE`,
		"exec nobody true":                          "no container has the id or name \"nobody\"",
		"run":                                       "which image?",
		"run -d --rm --image a":                     "--rm needs the foreground",
		"run --wait-ready --image a":                "--wait-ready is for --detach",
		"run --image rbd:a/b":                       "names no monitor: add ?monitor=ADDRESS",
		"run --image rbd:a?monitor=m":               "does not say which image",
		"run --image rbd:a/b?monitor=m&secret=hush": "secret is nothing for a command line",
		"run --image iscsi://h/iqn.t/1":             "add ?initiator=IQN",
		"run --image iscsi://h":                     "does not say which LUN of which target",
		"run --image iscsi://h/iqn.t/1?initiator=i&queue_dept=8": "did you mean queue_depth?",
		"run --image nfs:h":                   "does not say which export",
		"run --bind a --image a":              `--bind: "a" is not SOURCE:TARGET`,
		"run --bind a:b:rx --image a":         `option "rx" is none of ro, rw, recursive`,
		"run -f - --memory 1G sh":             "--memory, the command: with -f the definition says that",
		"run --label =x --image a":            `--label: "=x" is not KEY=VALUE`,
		"run -f -":                            "stdin: the file is empty",
		"run --image a --socket /nonexistent": "cannot reach the daemon",
	} {
		t.Run(args, func(t *testing.T) { d.windlass(t, strings.Fields(args)...).want(t, exitOwn, want) })
	}
}

func TestTheDaemonsRefusals(t *testing.T) {
	for _, tc := range []struct {
		status int
		kind   string
		code   int
	}{{404, "not_found", exitNotFound}, {409, "busy", exitConflict}, {400, "invalid", exitFailed}, {422, "invalid", exitFailed},
		{500, "internal", exitFailed}, {503, "unavailable", exitFailed}, {504, "timeout", exitTimeout}} {
		d := newDaemon(t)
		d.on("POST /mount", func(w http.ResponseWriter, _ *http.Request) { refuse(w, tc.status, tc.kind, "mount /a: because") })
		r := d.windlass(t, "mount", "tmpfs")
		if r.code != tc.code || r.err != "windlass: mount /a: because\n" {
			t.Errorf("%d: got %+v", tc.status, r)
		}
		r = d.windlass(t, "mount", "tmpfs", "-v")
		if !strings.Contains(r.err, "kind "+tc.kind+", request r-1") {
			t.Errorf("%d: -v tells %s", tc.status, r.err)
		}
	}
}

func TestAnAnswerThatIsNotTheDaemons(t *testing.T) {
	d := newDaemon(t)
	d.mux = http.NewServeMux()
	d.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
	d.windlass(t, "ps").want(t, exitFailed, "what answers at "+d.socket+" is not windlass")
}

func TestAnUnreachableDaemon(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"no socket":    {map[string]string{"WINDLASS_SOCKET": dir + "/none"}, nil, "cannot reach the daemon at " + dir + "/none: no such file or directory: is `windlass serve` running? Name another with --socket or --url"},
		"flag wins":    {map[string]string{"WINDLASS_URL": "http://h"}, []string{"--socket", dir + "/f"}, "cannot reach the daemon at " + dir + "/f: "},
		"no listener":  {map[string]string{"WINDLASS_URL": "http://127.0.0.1:1"}, nil, "cannot reach the daemon at http://127.0.0.1:1: connection refused"},
		"unix URL":     {nil, []string{"--url", "unix://" + dir + "/u"}, "cannot reach the daemon at " + dir + "/u: no such file"},
		"no passwords": {nil, []string{"--url", "http://u:secret@127.0.0.1:1"}, "http://u:xxxxx@127.0.0.1:1: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, tc.env, nil, append([]string{"windlass", "ps"}, tc.args...)...).want(t, exitUnreachable, tc.want)
		})
	}
	r := run(t, map[string]string{"WINDLASS_URL": "http://h", "WINDLASS_SOCKET": "/s"}, nil, "windlass", "ps")
	r.want(t, exitUsage, "WINDLASS_SOCKET and WINDLASS_URL are both set")
}

func TestTimeoutEndsARequest(t *testing.T) {
	d := newDaemon(t)
	d.on("POST /mount", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	d.windlass(t, "mount", "tmpfs", "--timeout", "50ms").want(t, exitTimeout, "gave up after --timeout")
}

func TestHTTPSWithAClientCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 {
			t.Error("no client certificate")
		}
		answer(w, 200, []any{})
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	defer s.Close()
	cert, key := filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")
	writePair(t, s.TLS.Certificates[0], cert, key)
	r := run(t, map[string]string{"WINDLASS_CACERT": cert, "WINDLASS_KEY": key}, nil, "windlass", "ps", "-o", "json", "--url", s.URL, "--cert", cert)
	r.want(t, 0, "")
	r = run(t, nil, nil, "windlass", "ps", "--url", s.URL)
	r.want(t, exitUnreachable, "certificate signed by unknown authority")
}

func writePair(t *testing.T, pair tls.Certificate, cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServeGetsTheConfiguration(t *testing.T) {
	for name, args := range map[string][]string{
		"by its name":             {"/usr/bin/windlass", "serve", "--host", "127.0.0.1", "--scheme", "http"},
		"by the forerunner's too": {"/usr/bin/imageapi-server", "--host", "127.0.0.1", "--scheme", "http"},
	} {
		t.Run(name, func(t *testing.T) {
			var got config.Config
			code := Run(args, nil, io.Discard, io.Discard, Options{
				Env: func(string) (string, bool) { return "", false },
				Serve: func(_ context.Context, cfg config.Config, _ io.Writer) error {
					got = cfg
					return nil
				}})
			if code != 0 || got.Host != "127.0.0.1" || got.Port != 8080 || len(got.Schemes) != 1 || got.Schemes[0] != "http" {
				t.Fatalf("exit code %d, %+v", code, got)
			}
		})
	}
}

func TestServeTellsEverythingThatIsWrong(t *testing.T) {
	r := run(t, map[string]string{"WINDLASS_LOG_LEVEL": "loud"}, nil, "windlass", "serve", "--scheme", "htps", "--run-dir", "x")
	r.want(t, exitUsage, "3 problems with the configuration:")
	for _, want := range []string{`scheme: "htps"`, `run_dir: "x"`, `log_level: "loud"`} {
		if !strings.Contains(r.err, want) {
			t.Errorf("not told: %s in\n%s", want, r.err)
		}
	}
}

func TestServesErrorIsTold(t *testing.T) {
	var errs strings.Builder
	code := Run([]string{"windlass", "serve"}, nil, io.Discard, &errs, Options{
		Env:   func(string) (string, bool) { return "", false },
		Serve: func(context.Context, config.Config, io.Writer) error { return errors.New("another daemon runs") }})
	if code != exitFailed || errs.String() != "windlass: another daemon runs\n" {
		t.Fatalf("got %d, %q", code, errs.String())
	}
}

func TestConfigCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("port: 81\n")
	r := run(t, nil, nil, "windlass", "config", "check", path)
	r.want(t, 0, "")
	if !strings.HasPrefix(r.out, "# OK.") || !strings.Contains(r.out, "port: 81\n") {
		t.Fatalf("got %s", r.out)
	}
	write("prot: 81\nrun_dir: x\n")
	r = run(t, nil, nil, "windlass", "config", "check", path)
	r.want(t, exitUsage, ":1: unknown key prot (did you mean port?)")
	r.want(t, exitUsage, `run_dir: "x" is not an absolute path`)
	r = run(t, nil, nil, "windlass", "config", "example")
	r.want(t, 0, "")
	write(r.out)
	run(t, nil, nil, "windlass", "config", "check", path).want(t, 0, "")
}
