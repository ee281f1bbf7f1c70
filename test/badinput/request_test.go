package badinput

import (
	"fmt"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mistake is a request that is wrong, and how it is answered: the status, the code in the body (0: the same), and words of the message
// that say what, where and what to do.
type mistake struct {
	name, path, body string
	status, code     int
	says             []string
}

// post sends each mistake to one daemon and holds that the node is as before after each.
func post(t *testing.T, mistakes []mistake) {
	n, d := daemon.Start(t)
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			status, e := daemon.Refused(t, d, http.MethodPost, m.path, m.body)
			code := m.code
			if code == 0 {
				code = m.status
			}
			if status != m.status || int(e.Code) != code {
				t.Errorf("%d, code %d, %q; want %d, code %d", status, e.Code, *e.Message, m.status, code)
			}
			says(t, *e.Message, m.says...)
			daemon.Untouched(t, n, d)
		})
	}
}

func TestWhatDoesNotFitTheContract(t *testing.T) {
	img := smallroot.Image(t)
	deep := strings.Repeat(`{"kind":"overlay","overlay":{"lower":[`, 10_000) + `{"id":1}` + strings.Repeat(`]}}`, 10_000)
	nested := bind("/srv")
	for range 70 {
		nested = bindIn(nested, "/")
	}
	post(t, []mistake{
		{"unknown kind of attachment", "/attach", `{"kind":"floppy"}`, 422, 606, []string{"kind in body", `"floppy"`, "loopback"}},
		{"unknown kind of mount", "/mount", `{"kind":"cifs"}`, 422, 606, []string{"kind in body", `"cifs"`, "overlay"}},
		{"unknown kind within", "/mount", overlay(`{"kind":"cifs"}`), 422, 606, []string{"overlay.lower.0.kind", `"cifs"`}},
		{"relative export", "/mount", `{"kind":"nfs","nfs":{"host":"h","path":"p"}}`, 400, 0, []string{"nfs.path"}},
		{"masked secret", "/attach", `{"kind":"rbd","rbd":{"monitors":["h"],"pool":"p","image":"i","options":{"secret":"***"}}}`, 400, 0,
			[]string{"rbd.options.secret", "never tells it", "credential"}},
		{"masked secret of iSCSI", "/attach", `{"kind":"iscsi","iscsi":{"host":"h","target":"iqn.2026-01.org.example:t","initiator":"iqn.2026-01.org.example:i",` +
			`"chap":{"user":"u","secret":"***"}}}`, 400, 0, []string{"iscsi.chap.secret"}},
		{"no kind and no part", "/attach", `{}`, 400, 0, []string{"neither kind nor part", "loopback"}},
		{"missing part", "/mount", `{"kind":"overlay"}`, 400, 0, []string{"no part overlay", "give"}},
		{"two parts", "/mount", `{"kind":"tmpfs","tmpfs":{},"bind":{"path":"/","base":"root"}}`, 400, 0, []string{"bind, tmpfs", "exactly one"}},
		{"missing field", "/attach", `{"kind":"loopback","loopback":{"path":"/x"}}`, 422, 602, []string{"loopback.base", "required"}},
		{"container without mount", "/container", `{"command":"/bin/true"}`, 422, 602, []string{"mount in body", "required"}},
		{"base mount without mount", "/attach", strings.Replace(loop(img), "root\"}", "mount\"}", 1), 400, 0, []string{"loopback.mount is missing"}},
		{"wrong type", "/container", `{"command":["/sbin/init"],"mount":{"id":1}}`, 422, 601, []string{"command in body", "a string, not an array"}},
		{"wrong type within", "/mount", strings.Replace(squashfs(img), `"squashfs"`, `true`, 1), 422, 601, []string{"attach.fs_type", "a string, not a boolean"}},
		{"array for the whole", "/mount", `[]`, 422, 601, []string{"the body", "an object, not an array"}},
		{"null for the whole", "/mount", `null`, 422, 601, []string{"the body", "not null"}},
		{"null in a list of mounts", "/mount", overlay("null"), 422, 601, []string{"overlay.lower.0", "not null"}},
		{"null in a list of words", "/mount", strings.Replace(squashfs(img), `"fs_type"`, `"mount_options":[null],"fs_type"`, 1), 422, 601, []string{"attach.mount_options.0", "not null"}},
		{"null in a list of binds", "/container", container(squashfs(img), "/bin/true", `"binds":[null]`), 422, 601, []string{"binds.0", "not null"}},
		{"null in a map", "/container", container(squashfs(img), "/bin/true", `"env":{"A":null}`), 422, 601, []string{"env.A", "not null"}},
		{"empty list", "/mount", overlay(""), 422, 612, []string{"overlay.lower", "at least 1"}},
		{"unknown field", "/mount", `{"kind":"tmpfs","tmpfs":{"sise":65536}}`, 422, 616, []string{"tmpfs.sise", "known are inodes, mode, size"}},
		{"read-only field", "/mount", `{"refs":3,"kind":"tmpfs","tmpfs":{}}`, 422, 619, []string{"refs", "given by the server"}},
		{"id of its own", "/mount", `{"id":7,"kind":"tmpfs","tmpfs":{}}`, 400, 0, []string{"id", "leave it out"}},
		{"field twice", "/attach", `{"kind":"local","kind":"local"}`, 400, 0, []string{`"kind"`, "twice", "line 1"}},
		{"name with a space", "/container", container(squashfs(img), "/bin/true", `"name":"a b"`), 422, 605, []string{"name in body", "match"}},
		{"name too long", "/container", container(squashfs(img), "/bin/true", `"name":"`+strings.Repeat("a", 200)+`"`), 422, 603, []string{"name", "at most 128"}},
		{"unknown namespace", "/container", container(squashfs(img), "/bin/true", `"namespaces":["foo"]`), 422, 606, []string{"namespaces.0", `"foo"`, "uts"}},
		{"state that cannot be at first", "/container", container(squashfs(img), "/bin/true", `"state":"paused"`), 400, 0, []string{"paused", "created or running"}},
		{"10,000 definitions one in the other", "/mount", deep, 400, 0, []string{"nests deeper than 256 levels", "line 1"}},
		{"10,000 brackets", "/mount", strings.Repeat("[", 10_000), 400, 0, []string{"nests deeper than 256 levels"}},
		{"70 mounts one in the other", "/mount", nested, 400, 0, []string{"more than 64 deep", "bind.mount"}},
		{"no JSON", "/mount", `{"kind":`, 400, 0, []string{"not valid JSON", "line 1, column"}},
		{"nothing", "/mount", ``, 400, 0, []string{"the body is empty", "send"}},
	})
}

func TestUnknownObjects(t *testing.T) {
	img := smallroot.Image(t)
	post(t, []mistake{
		{"unknown mount below", "/mount", overlay(`{"id":99}`), 404, 0, []string{"no mount has id 99", "GET /mount"}},
		{"unknown attachment below", "/mount", device(`{"id":99}`, "squashfs"), 404, 0, []string{"no attach has id 99", "GET /attach"}},
		{"unknown root", "/container", container(`{"id":99}`, "/bin/true"), 404, 0, []string{"no mount has id 99"}},
		// A definition can only lie on what is there, so a cycle must name the number that it would get.
		{"on itself", "/mount", overlay(`{"id":1}`), 404, 0, []string{"no mount has id 1"}},
		{"id that is none", "/mount", overlay(`{"id":-1}`), 422, 609, []string{"overlay.lower.0.id", "-1"}},
		{"id that is a string", "/mount", overlay(`{"id":"1"}`), 422, 601, []string{"overlay.lower.0.id", "an integer, not a string"}},
		{"exec in an unknown container", "/container/99/exec", `{"command":["/bin/true"]}`, 404, 0, []string{"no container has id 99"}},
		{"digest of something else", "/mount", uri("file://"+img, `"digest":"sha256:`+strings.Repeat("0", 64)+`"`), 422, 0, []string{img, "has the digest sha256:", "as asked"}},
	})
}

func TestOtherRequests(t *testing.T) {
	n, d := daemon.Start(t)
	for _, c := range []struct {
		method, path string
		status       int
		says         []string
	}{
		{"GET", "/attach?id=99", 404, []string{"no attach has id 99", "GET /attach"}},
		{"GET", "/mount?id=x", 422, []string{"id in query", "an integer", `"x"`}},
		{"GET", "/mount?nosuch=1", 422, []string{"nosuch in query", "known are"}},
		{"GET", "/container?name=nobody", 404, []string{`"nobody"`}},
		{"GET", "/container?state=flying", 422, []string{"state in query", `"flying"`, "running"}},
		{"GET", "/container/99/log", 404, []string{"no container has id 99"}},
		{"GET", "/container/99/wait", 404, []string{"no container has id 99"}},
		{"GET", "/nowhere", 404, []string{"/imageapi/v1/nowhere", "/swagger.json"}},
		{"DELETE", "/mount", 422, []string{"id in query", "required"}},
		{"DELETE", "/mount?id=99", 404, []string{"no mount has id 99"}},
		{"DELETE", "/container", 400, []string{"either ID or Name must be provided"}},
		{"DELETE", "/container?id=1&force=perhaps", 422, []string{"force in query", "a boolean", `"perhaps"`}},
		{"PATCH", "/container?name=n", 422, []string{"state in query", "required"}},
		{"PATCH", "/container?state=running", 400, []string{"either ID or Name must be provided"}},
		{"PATCH", "/container?name=n&state=running", 404, []string{`"n"`}},
		{"PATCH", "/container?name=n&state=dead", 422, []string{"state in query", "exited"}},
		{"PUT", "/mount", 405, []string{"PUT", "POST"}},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			status, e := daemon.Refused(t, d, c.method, c.path, nil)
			if status != c.status {
				t.Errorf("%d %q, want %d", status, *e.Message, c.status)
			}
			says(t, *e.Message, c.says...)
		})
	}
	daemon.Untouched(t, n, d)
}

func TestPathsThatLeadElsewhere(t *testing.T) {
	img, dir := smallroot.Image(t), t.TempDir()
	file := filepath.Join(dir, "noimage")
	write(t, file, strings.Repeat("no image ", 1000))
	small := filepath.Join(dir, "small")
	write(t, small, "x")
	local := func(path string) string { return fmt.Sprintf(`{"kind":"local","local":{"path":%q}}`, path) }
	upper := func(path string) string { return overlay(squashfs(img), fmt.Sprintf(`"upper":{"path":%q}`, path)) }
	inImage := func(path string) string {
		return strings.Replace(loop(path), `"root"}`, `"mount","mount":`+squashfs(img)+`}`, 1)
	}
	post(t, []mistake{
		{"relative image", "/attach", loop("root.squashfs"), 400, 0, []string{"loopback.path", "not an absolute path", "begin with /"}},
		{"escaping image", "/attach", loop("/srv/../etc/passwd"), 400, 0, []string{"loopback.path", `".."`, "name the place itself"}},
		{"escaping image in a mount", "/attach", inImage("../../etc/passwd"), 400, 0, []string{"loopback.path", `".."`}},
		{"path with NUL", "/attach", `{"kind":"loopback","loopback":{"path":"/a\u0000b","base":"root"}}`, 422, 605, []string{"loopback.path", "NUL"}},
		{"no such image", "/attach", loop("/nonesuch"), 404, 0, []string{`"/nonesuch"`, "check the path"}},
		{"no such image in a mount", "/attach", inImage("/nonesuch"), 404, 0, []string{`"/nonesuch"`, "the mount"}},
		{"directory as image", "/attach", loop(dir), 400, 0, []string{dir, "a directory", "regular file"}},
		{"directory in a mount as image", "/attach", inImage("/etc"), 400, 0, []string{`"/etc"`, "a directory"}},
		{"device as image", "/attach", loop("/dev/null"), 400, 0, []string{"/dev/null", "a character device"}},
		{"file below a file", "/attach", loop(img + "/x"), 400, 0, []string{img + "/x", "not a directory", "check the path"}},
		{"image of one byte", "/attach", loop(small), 400, 0, []string{small, "1 bytes", "512"}},
		{"partition of none", "/attach", strings.Replace(loop(img), `"base"`, `"partition":3,"base"`, 1), 400, 0, []string{"partition 3", "leave the partition out"}},
		{"file as device", "/attach", local(img), 400, 0, []string{"local.path", img, "kind loopback"}},
		{"directory as device", "/attach", local(dir), 400, 0, []string{dir, "a directory", "block device"}},
		{"relative device", "/attach", local("dev/sda"), 400, 0, []string{"local.path", "begin with /"}},
		{"no such device", "/attach", local("/dev/nonesuch"), 404, 0, []string{"/dev/nonesuch", "/dev/disk"}},
		{"relative bind", "/mount", bind("etc"), 400, 0, []string{"bind.path", "begin with /"}},
		{"escaping bind", "/mount", bind("/etc/../root"), 400, 0, []string{"bind.path", `".."`}},
		{"bind escaping a mount", "/mount", bindIn(squashfs(img), "../../etc"), 400, 0, []string{"bind.path", `".."`}},
		{"bind of nothing", "/mount", bind("/nonesuch"), 404, 0, []string{"bind.path", "/nonesuch", "make it"}},
		{"bind of nothing in a mount", "/mount", bindIn(squashfs(img), "/nonesuch"), 404, 0, []string{"/nonesuch", "in the mount"}},
		{"relative upper", "/mount", upper("upper"), 400, 0, []string{"overlay.upper.path", "begin with /"}},
		{"no such upper", "/mount", upper("/nonesuch"), 404, 0, []string{"overlay.upper.path", "/nonesuch", "make the directory"}},
		{"file as upper", "/mount", upper(file), 400, 0, []string{"overlay.upper.path", file, "not a directory"}},
		{"file as lower", "/mount", overlay(bind(file)), 400, 0, []string{"overlay.lower", "not a directory but a file"}},
		{"random bytes as squashfs", "/mount", squashfs(file), 422, 0, []string{"squashfs", "superblock", "check that the image is whole"}},
		{"random bytes as ext4", "/mount", device(loop(file), "ext4"), 422, 0, []string{"ext4", "check that the image is whole"}},
		{"random bytes below a container", "/container", container(overlay(squashfs(file)), "/bin/true", running), 422, 0, []string{"squashfs", "superblock"}},
		{"other file system than said", "/mount", device(loop(img), "erofs"), 422, 0, []string{"holds squashfs, not erofs"}},
		{"unknown file system", "/mount", device(loop(img), "ntfs"), 400, 0, []string{"attach.fs_type", `"ntfs"`, "squashfs"}},
		{"unknown option", "/mount", strings.Replace(squashfs(img), `"fs_type"`, `"mount_options":["nonsense=1"],"fs_type"`, 1), 400, 0, []string{`"nonsense=1"`, "leave"}},
		{"scheme that is none of ours", "/mount", uri("ftp://h/x"), 400, 0, []string{"uri.uri", `"ftp"`, "https"}},
		{"no such file to fetch", "/mount", uri("file:///nonesuch"), 404, 0, []string{"file:///nonesuch"}},
		{"directory to fetch", "/mount", uri("file://" + dir), 400, 0, []string{dir, "a directory"}},
		{"random bytes to fetch", "/mount", uri("file://" + file), 422, 0, []string{file, "not an image or archive", "check the address"}},
		{"nobody to fetch from", "/mount", uri("http://127.0.0.1:1/x"), 502, 0, []string{"http://127.0.0.1:1/x", "refused", "see whether the server runs"}},
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
