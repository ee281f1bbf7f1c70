package cli

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// raises has the daemon answer every create with an object of its kind.
func (d *daemon) raises() {
	for kind, object := range map[string]map[string]any{
		"attach":    {"id": 20, "kind": "loopback", "state": "ready", "device_file": "/dev/loop9"},
		"mount":     {"id": 20, "kind": "overlay", "state": "ready", "mountpoint": "/run/windlass/mounts/20"},
		"container": {"id": 20, "name": "new", "state": "running", "command": "x"},
	} {
		d.on("POST /"+kind, func(w http.ResponseWriter, _ *http.Request) { answer(w, 201, object) })
	}
}

func TestWhatIsAskedOfTheDaemon(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	loop := func(path string) string {
		return `{"attach":{"attach":{"kind":"loopback","loopback":{"base":"root","path":"` + path + `"}},"fs_type":"squashfs","mount_options":null},"kind":"attach"}`
	}
	container := func(rest, layer string) string {
		return `POST /container {` + rest + `,"mount":{"kind":"overlay","overlay":{"lower":[` + layer + `]}},"namespaces":null,"state":"running"`
	}
	for name, tc := range map[string]struct {
		args  string
		stdin string
		want  string
	}{
		"loopback":          {"attach loopback /a.sqsh", "", `POST /attach {"kind":"loopback","loopback":{"base":"root","path":"/a.sqsh"}}`},
		"relative loopback": {"attach loopback a.sqsh", "", `POST /attach {"kind":"loopback","loopback":{"base":"root","path":"` + dir + `/a.sqsh"}}`},
		"loopback, all": {"attach loopback a --in-mount 4 --read-only=false --direct-io --read-partitions --partition 2 --offset 1M --size-limit 2G", "",
			`POST /attach {"kind":"loopback","loopback":{"base":"mount","direct_io":true,"mount":{"id":4},"offset":1048576,"partition":2,"path":"a","readPartitions":true,"read_only":false,"size_limit":2147483648}}`},
		"local":             {"attach local /dev/sdb --partition 3", "", `POST /attach {"kind":"local","local":{"partition":3,"path":"/dev/sdb"}}`},
		"attach, stdin":     {"attach -f -", "kind: local\nlocal:\n  path: /dev/sdc\n", `POST /attach {"kind":"local","local":{"path":"/dev/sdc"}}`},
		"mount by id":       {"mount attach --id 3 -t ext4 --option ro --option noatime", "", `POST /mount {"attach":{"attach":{"id":3},"fs_type":"ext4","mount_options":["ro","noatime"]},"kind":"attach"}`},
		"mount a file":      {"mount attach --loopback /a.sqsh", "", `POST /mount ` + loop("/a.sqsh")},
		"mount local":       {"mount attach --local /dev/sdb --partition 1 --fs-type xfs", "", `POST /mount {"attach":{"attach":{"kind":"local","local":{"partition":1,"path":"/dev/sdb"}},"fs_type":"xfs","mount_options":null},"kind":"attach"}`},
		"overlay":           {"mount overlay --lower 5 --lower 3 --upper-size 512M", "", `POST /mount {"kind":"overlay","overlay":{"lower":[{"id":5},{"id":3}],"upper":{"size":536870912}}}`},
		"overlay, ro":       {"mount overlay --lower 5,3 --ro", "", `POST /mount {"kind":"overlay","overlay":{"lower":[{"id":5},{"id":3}],"ro":true}}`},
		"overlay on":        {"mount overlay --lower 5 --upper-mount 6", "", `POST /mount {"kind":"overlay","overlay":{"lower":[{"id":5}],"upper":{"mount":{"id":6}}}}`},
		"bind":              {"mount bind /srv --ro --recursive", "", `POST /mount {"bind":{"base":"root","path":"/srv","recursive":true,"ro":true},"kind":"bind"}`},
		"bind in mount":     {"mount bind usr --in-mount 3", "", `POST /mount {"bind":{"base":"mount","mount":{"id":3},"path":"usr"},"kind":"bind"}`},
		"tmpfs":             {"mount tmpfs --size 1G --mode 1777", "", `POST /mount {"kind":"tmpfs","tmpfs":{"mode":"1777","size":1073741824}}`},
		"uri":               {"mount uri https://h/a.tar --size 1G --format tar", "", `POST /mount {"kind":"uri","uri":{"format":"tar","size":1073741824,"uri":"https://h/a.tar"}}`},
		"chunkfs":           {"mount chunkfs http://h/s#debian/12", "", `POST /mount {"chunkfs":{"image":"debian/12","origins":[{"url":"http://h/s"}]},"kind":"chunkfs"}`},
		"chunkfs, relative": {"mount chunkfs s#n --origin t", "", `POST /mount {"chunkfs":{"image":"n","origins":[{"url":"` + dir + `/s"},{"url":"` + dir + `/t"}]},"kind":"chunkfs"}`},
		"chunkfs, all": {"mount chunkfs https://h/s#n --origin /srv/s --mode lazy --verify off --prefetch all --role ssh --bandwidth 1M --pin --username me --password-file " + password + " --digest blake3:x", "",
			`POST /mount {"chunkfs":{"bandwidth":1048576,"digest":"blake3:x","image":"n","mode":"lazy","origins":[{"password":"hush","url":"https://h/s","username":"me"},` +
				`{"password":"hush","url":"/srv/s","username":"me"}],"pin":true,"prefetch":"all","role":"ssh","verify":"off"},"kind":"chunkfs"}`},
		"rbd": {"attach rbd rbd/debian@v1 --monitor a,b:6789", "", `POST /attach {"kind":"rbd","rbd":{"image":"debian","monitors":["a","b:6789"],"pool":"rbd","snapshot":"v1"}}`},
		"rbd, all": {"attach rbd p/ns/i --monitor a --monitor [fd00::1]:3300 --name me --ro --secret-file " + password + " --option exclusive --option notrim=true --option queue_depth=64 --option osd_request_timeout=0 --option ms_mode=secure", "",
			`POST /attach {"kind":"rbd","rbd":{"image":"i","monitors":["a","[fd00::1]:3300"],"options":{"exclusive":true,"ms_mode":"secure","name":"me","namespace":"ns","notrim":true,` +
				`"osd_request_timeout":0,"queue_depth":64,"ro":true,"secret":"hush"},"pool":"p"}}`},
		"rbd, stdin":      {"attach rbd p/i --monitor a --secret-file -", "key\n", `POST /attach {"kind":"rbd","rbd":{"image":"i","monitors":["a"],"options":{"secret":"key"},"pool":"p"}}`},
		"rbd, credential": {"attach rbd p/i --monitor a --credential c --ro=false", "", `POST /attach {"kind":"rbd","rbd":{"image":"i","monitors":["a"],"options":{"credential":"c","rw":true},"pool":"p"}}`},
		"iscsi":           {"attach iscsi iqn.t --host h --initiator iqn.i", "", `POST /attach {"iscsi":{"host":"h","initiator":"iqn.i","target":"iqn.t"},"kind":"iscsi"}`},
		"iscsi, all": {"attach iscsi iqn.t --host [fd00::5]:3261 --initiator iqn.i --lun 0 --discover --header-digest crc32c --data-digest none --login-timeout 20s --recovery-timeout 0s --queue-depth 8 --max-commands 64 --scheduler none " +
			"--chap-user me --chap-secret-file " + password + " --mutual-chap-user you --mutual-chap-credential c", "",
			`POST /attach {"iscsi":{"chap":{"secret":"hush","user":"me"},"data_digest":"none","discover":true,"header_digest":"crc32c","host":"fd00::5","initiator":"iqn.i","login_timeout":20,"lun":0,` +
				`"max_comands":64,"mutual_chap":{"credential":"c","user":"you"},"port":3261,"queue_depth":8,"recovery_timeout":0,"scheduler":"none","target":"iqn.t"},"kind":"iscsi"}`},
		"nfs":          {"mount nfs head:/images", "", `POST /mount {"kind":"nfs","nfs":{"host":"head","options":null,"path":"/images"}}`},
		"nfs, all":     {"mount nfs [fd00::5]:/a:/b --ro --version 4.1 --option soft --option timeo=50,nconnect=2", "", `POST /mount {"kind":"nfs","nfs":{"host":"fd00::5","options":["soft","timeo=50,nconnect=2"],"path":"/a:/b","ro":true,"version":"4.1"}}`},
		"mount, stdin": {"mount -f -", `{"kind":"bind","bind":{"path":"/a","base":"root"}}`, `POST /mount {"bind":{"base":"root","path":"/a"},"kind":"bind"}`},

		"run":             {"run -d --image /a.sqsh", "", container(`"command":"/sbin/init"`, loop("/a.sqsh")) + `,"systemd":true}`},
		"run, no systemd": {"run -d --systemd=false --image /a.sqsh", "", container(`"command":"/sbin/init"`, loop("/a.sqsh")) + `}`},
		"run a command":   {"run -d --image /a.img echo -d it's", "", container(`"command":"echo -d it\\'s"`, loop("/a.img")) + `}`},
		"run a directory": {"run -d --image / true", "", container(`"command":"true"`, `{"bind":{"base":"root","path":"/","ro":true},"kind":"bind"}`) + `}`},
		"run a device":    {"run -d -t erofs --image /dev/sdb true", "", container(`"command":"true"`, `{"attach":{"attach":{"kind":"local","local":{"path":"/dev/sdb"}},"fs_type":"erofs","mount_options":null},"kind":"attach"}`) + `}`},
		"run a URL":       {"run -d --image http://h/a true", "", container(`"command":"true"`, `{"kind":"uri","uri":{"uri":"http://h/a"}}`) + `}`},
		"run chunkfs":     {"run -d --image chunkfs+http://h/s#a true", "", container(`"command":"true"`, `{"chunkfs":{"image":"a","origins":[{"url":"http://h/s"}]},"kind":"chunkfs"}`) + `}`},
		"run rbd": {"run -d --image rbd:p/i@s?monitor=a,b&name=me&credential=c&exclusive true", "", container(`"command":"true"`,
			`{"attach":{"attach":{"kind":"rbd","rbd":{"image":"i","monitors":["a","b"],"options":{"credential":"c","exclusive":true,"name":"me"},"pool":"p","snapshot":"s"}},"fs_type":"squashfs","mount_options":null},"kind":"attach"}`) + `}`},
		"run iscsi": {"run -d -t erofs --image iscsi://h:3261/iqn.t/1?initiator=iqn.i&user=me&credential=c&queue_depth=8 true", "", container(`"command":"true"`,
			`{"attach":{"attach":{"iscsi":{"chap":{"credential":"c","user":"me"},"host":"h","initiator":"iqn.i","lun":1,"port":3261,"queue_depth":8,"target":"iqn.t"},"kind":"iscsi"},"fs_type":"erofs","mount_options":null},"kind":"attach"}`) + `}`},
		"run nfs": {"run -d --image nfs:head:/images/debian?version=3&nconnect=2&soft true", "", container(`"command":"true"`,
			`{"kind":"nfs","nfs":{"host":"head","options":["nconnect=2","soft"],"path":"/images/debian","ro":true,"version":"3"}}`) + `}`},
		"run a file on nfs": {"run -d --image nfs:head:/images/a.sqsh true", "", container(`"command":"true"`,
			`{"attach":{"attach":{"kind":"loopback","loopback":{"base":"mount","mount":{"kind":"nfs","nfs":{"host":"head","options":null,"path":"/images","ro":true}},"path":"a.sqsh"}},"fs_type":"squashfs","mount_options":null},"kind":"attach"}`) + `}`},
		"run, all": {"run -d --name n --hostname h -u me:us -w /w -e A=1 -e B=x=y -e FROM -e NONE -l role=web --bind /s:/t:ro,recursive --memory 1G --cpus 1.5 --pids 9 --namespace net,user --stop-timeout 1500ms --image /a.sqsh true", "",
			`POST /container {"binds":[{"recursive":true,"ro":true,"source":"/s","target":"/t"}],"command":"true","env":{"A":"1","B":"x=y","FROM":"here"},"hostname":"h","labels":{"role":"web"},` +
				`"limits":{"cpu":1.5,"memory":1073741824,"pids":9},"mount":{"kind":"overlay","overlay":{"lower":[` + loop("/a.sqsh") + `]}},"name":"n","namespaces":["net","user"],"state":"running","stop_timeout":2,"user":"me:us","working_dir":"/w"}`},
		"run, stdin": {"run -d --name n -f -", "command: /bin/true\nmount: {id: 4}\n", `POST /container {"command":"/bin/true","mount":{"id":4},"name":"n","namespaces":null,"state":"running"}`},

		"rm a container":   {"rm web", "", "DELETE /container?force=false&id=5"},
		"rm a mount":       {"rm --force 3", "", "DELETE /mount?force=true&id=3"},
		"rm an attachment": {"rm 8", "", "DELETE /attach?force=false&id=8"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			d.raises()
			r := d.with(t, map[string]string{"FROM": "here"}, strings.NewReader(tc.stdin), strings.Fields(tc.args)...)
			r.want(t, 0, "")
			if diff := cmp.Diff([]string{tc.want}, d.changes()); diff != "" {
				t.Fatal(diff)
			}
			if r.out == "" {
				t.Fatal("nothing was answered")
			}
		})
	}
}

// A table would show what is gone as if it were there.
func TestDeletedIsSaid(t *testing.T) {
	d := newDaemon(t)
	d.raises()
	for args, want := range map[string]string{
		"rm web": "deleted container 5 web\n", "rm 3 8": "deleted mount 3\ndeleted attach 8\n", "rm 8 -o json": `"id": 8`,
	} {
		if r := d.windlass(t, strings.Fields(args)...); !strings.Contains(r.out, want) || r.code != 0 {
			t.Errorf("%s: code %d, %q %s, want %q", args, r.code, r.out, r.err, want)
		}
	}
}

// lives has the daemon answer changes of state; what must be waited for ends with the code 0.
func (d *daemon) lives() {
	d.on("PATCH /container", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("id") == "11" {
			refuse(w, 409, "bad_state", "container 11 is dead")
			return
		}
		state := map[string]string{"exited": "stopping"}[q.Get("state")]
		if state == "" {
			state = q.Get("state")
		}
		answer(w, 200, map[string]any{"id": 5, "name": "web", "state": state, "command": "x"})
	})
	d.on("GET /container/{id}/wait", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 200, map[string]any{"id": 5, "name": "web", "state": "exited", "exit_code": 0, "command": "x"})
	})
}

func TestContainersChangeTheirState(t *testing.T) {
	for args, want := range map[string]struct{ change, state string }{
		"start web":              {"PATCH /container?id=5&state=running", "running"},
		"start --wait-ready web": {"PATCH /container?id=5&state=running", "exited"},
		"stop web":               {"PATCH /container?id=5&state=exited", "exited"},
		"stop --wait=false 5":    {"PATCH /container?id=5&state=exited", "stopping"},
		"stop --time 1500ms web": {"PATCH /container?id=5&state=exited&timeout=2", "exited"},
		"stop --time 0s web":     {"PATCH /container?id=5&state=exited&timeout=0", "exited"},
		"pause web":              {"PATCH /container?id=5&state=paused", "paused"},
		"resume web":             {"PATCH /container?id=5&state=running", "running"},
		"wait web":               {"", "exited"},
	} {
		t.Run(args, func(t *testing.T) {
			d := newDaemon(t)
			d.lives()
			r := d.windlass(t, strings.Fields(args)...)
			r.want(t, 0, "")
			if got := strings.Join(d.changes(), "\n"); got != want.change {
				t.Errorf("asked %q, want %q", got, want.change)
			}
			if !strings.Contains(r.out, " "+want.state+" ") {
				t.Errorf("not shown as %s:\n%s", want.state, r.out)
			}
		})
	}
}

func TestOneBadTargetDoesNotKeepTheOthersFromBeingDone(t *testing.T) {
	d := newDaemon(t)
	d.lives()
	r := d.windlass(t, "stop", "nobody", "11", "web")
	r.want(t, exitNotFound, "windlass: no container has the id or name \"nobody\": `windlass ps` lists them\nwindlass: stop 11: container 11 is dead\n")
	if !strings.Contains(r.out, "web") || !slices.Contains(d.changes(), "PATCH /container?id=5&state=exited") {
		t.Fatalf("web was not stopped: %s, %v", r.out, d.changes())
	}
}

func TestResumeDoesNotStart(t *testing.T) {
	d := newDaemon(t)
	d.windlass(t, "resume", "batch-1").want(t, exitConflict, "container batch-1 is exited, not paused: `windlass start` starts it")
	if len(d.changes()) != 0 {
		t.Fatal(d.changes())
	}
}

func TestLogs(t *testing.T) {
	d := newDaemon(t)
	d.on("GET /container/5/log", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		fmt.Fprintf(w, "%s\r\n\x1b[1mraw", r.URL.RawQuery)
	})
	r := d.windlass(t, "logs", "-f", "--tail", "0", "web")
	r.want(t, 0, "")
	if r.out != "follow=true&tail=0\r\n\x1b[1mraw" {
		t.Fatalf("got %q", r.out)
	}
}

func TestProgressShowsTheStepsOnce(t *testing.T) {
	d := newDaemon(t)
	seen := make(chan struct{})
	step := map[string]any{"stage": "uri.fetch", "started": "2026-03-01T11:00:00Z", "duration_ms": 12.5, "bytes": 1 << 20, "total_bytes": 4 << 20}
	object := map[string]any{"id": 30, "kind": "uri", "state": "ready", "uri": map[string]any{"uri": "http://h/a"}, "timeline": []any{
		step, map[string]any{"stage": "uri.mount", "started": "2026-03-01T11:00:01Z", "duration_ms": 1, "error": "bad\x1b superblock"}}}
	mux := http.NewServeMux()
	lists := 0
	mux.HandleFunc("GET /imageapi/v1/mount", func(w http.ResponseWriter, _ *http.Request) {
		if lists++; lists == 1 {
			answer(w, 200, []any{})
			return
		}
		answer(w, 200, []any{map[string]any{"id": 30, "kind": "uri", "state": "doing", "uri": map[string]any{"uri": "http://h/a"}, "timeline": []any{step}}})
		if lists == 3 {
			close(seen)
		}
	})
	mux.HandleFunc("POST /imageapi/v1/mount", func(w http.ResponseWriter, _ *http.Request) {
		<-seen
		answer(w, 201, object)
	})
	d.mux = mux
	r := d.windlass(t, "mount", "uri", "http://h/a", "--progress")
	want := "mount 30       uri.fetch                        12.5 ms  done  1MiB of 4MiB, 25 %\n" +
		"mount 30       uri.mount                         1.0 ms  failed: bad\\x1b superblock\n"
	if r.code != 0 || r.err != want {
		t.Fatalf("got %d\n%swant\n%s", r.code, r.err, want)
	}
}

func TestADefinitionInAFile(t *testing.T) {
	d := newDaemon(t)
	d.raises()
	path := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(path, []byte("command: /sbin/init\nmount:\n  overlay:\n    lowr: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.windlass(t, "run", "-d", "-f", path).want(t, exitOwn, path+":4: mount.overlay: unknown field lowr (did you mean lower?)")
	d.windlass(t, "mount", "-f", path).want(t, exitUsage, path+":1: unknown field command")
	d.windlass(t, "mount", "-f", "/nonexistent").want(t, exitUsage, "--file: open /nonexistent: no such file")
	if len(d.changes()) != 0 {
		t.Fatal(d.changes())
	}
}

// within fails the test when ch does not answer.
func within[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Errorf("waited in vain for %s", what)
		var none T
		return none
	}
}
