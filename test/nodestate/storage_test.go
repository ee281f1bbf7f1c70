package nodestate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStorage reads a tree that looks as sysfs does with images mapped and sessions open. (The kernel's own is read in test/storage; the
// machine that runs this one may have neither.)
func TestStorage(t *testing.T) {
	sys := t.TempDir()
	file := func(path, text string) {
		t.Helper()
		path = filepath.Join(sys, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
	}
	rbd := func(n, image, mark string) {
		dir := "bus/rbd/devices/" + n + "/"
		file(dir+"config_info", "10.99.0.1:6789 name=node,secret=TOPSECRET rbd "+image+" v1"+mark)
		file(dir+"pool", "rbd")
		file(dir+"name", image)
		file(dir+"current_snap", "v1")
	}
	f, err := newFilter(Options{RunDir: "/run/mine"})
	must(t, err)
	f.sys = sys
	rbd("0", "debian", " windlass:"+f.instance+":7")
	rbd("1", "other", " windlass:windlass-000000:7")
	rbd("2", "foreign", "")
	for n, name := range map[string]string{"session1": f.instance + ".9", "session2": f.instance + "0.9", "session3": "default", "session4": "(null)"} {
		file("class/iscsi_session/"+n+"/ifacename", name)
		file("class/iscsi_session/"+n+"/targetname", "iqn.x:"+n)
		file("class/iscsi_session/"+n+"/state", "LOGGED_IN")
		file("class/iscsi_session/"+n+"/device/target2:0:0/2:0:0:1/state", "running")
		file("class/iscsi_session/"+n+"/device/target2:0:0/2:0:0:1/block/sda/size", "8")
	}
	var got []string
	for _, list := range []func(filter) ([]Item, error){rbds, sessions} {
		items, err := list(f)
		must(t, err)
		for _, i := range items {
			got = append(got, i.String())
		}
	}
	want := []string{
		"rbd device rbd/debian@v1 of 7 (/dev/rbd0 is mapped)",
		"iscsi session " + f.instance + ".9 to iqn.x:session1 (session1 is LOGGED_IN)",
		"scsi device " + f.instance + ".9 lun 1 (/dev/sda is running)",
		"iscsi session nameless to iqn.x:session4 (session4 is LOGGED_IN)",
		"scsi device nameless lun 1 (/dev/sda is running)",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("seen are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	own, err := devicePaths(f)
	must(t, err)
	if !own["/dev/rbd0"] || !own["/dev/sda"] || own["/dev/rbd1"] {
		t.Errorf("the instance's device files are %v", own)
	}
}
