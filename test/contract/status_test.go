package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/kraken-hpc/imageapi/client/attachments"
	"github.com/kraken-hpc/imageapi/client/containers"
	"github.com/kraken-hpc/imageapi/client/mounts"
	"github.com/kraken-hpc/imageapi/models"
)

// The statuses that the wire contract names, each as a request that gets it.
func TestStatuses(t *testing.T) {
	s, path := start(t), image(t)
	loop := `{"kind":"loopback","loopback":{"path":"` + path + `","base":"root"}}`
	mount := `{"kind":"attach","attach":{"fs_type":"squashfs","attach":` + loop + `}}`
	for _, c := range []struct {
		name, method, path, body string
		status, code             int
		message                  string
	}{
		{"unknown path", "GET", "/nowhere", "", 404, 404, "nowhere"},
		{"unknown id", "GET", "/attach?id=99", "", 404, 404, "99"},
		{"unknown name", "GET", "/container?name=nobody", "", 404, 404, "nobody"},
		{"delete an unknown id", "DELETE", "/mount?id=99", "", 404, 404, "99"},
		{"delete a container without id and name", "DELETE", "/container", "", 400, 400, "either ID or Name must be provided"},
		{"state of a container without id and name", "PATCH", "/container?state=running", "", 400, 400, "either ID or Name must be provided"},
		{"unknown nested id", "POST", "/mount", `{"kind":"overlay","overlay":{"lower":[{"id":99}]}}`, 404, 404, "99"},
		{"nfs of a relative path", "POST", "/mount", `{"kind":"nfs","nfs":{"host":"h","path":"p"}}`, 400, 400, "nfs.path"},
		{"wrong type", "POST", "/attach", `{"kind":7}`, 422, 601, "kind"},
		{"missing part of a part", "POST", "/attach", `{"kind":"loopback","loopback":{"path":"/x"}}`, 422, 602, "base"},
		{"bad name", "POST", "/container", `{"name":"a b","command":"/bin/true","mount":` + mount + `}`, 422, 605, "name"},
		{"unknown kind", "POST", "/attach", `{"kind":"floppy"}`, 422, 606, "kind"},
		{"read-only field", "POST", "/attach", strings.Replace(loop, "{", `{"refs":3,`, 1), 422, 619, "refs"},
		{"null in a list", "POST", "/mount", `{"kind":"overlay","overlay":{"lower":[null]}}`, 422, 601, "lower"},
		{"null for the list", "POST", "/mount", `{"kind":"overlay","overlay":{"lower":null}}`, 422, 602, "lower"},
		{"rbd without options", "POST", "/attach", `{"kind":"rbd","rbd":{"monitors":["10.0.0.1"],"pool":"p","image":"a/b"}}`, 400, 400, "rbd.image"},
		{"rbd as it was answered", "POST", "/attach", `{"kind":"rbd","rbd":{"device_id":3,"monitors":["10.0.0.1"],"pool":"p","image":"i"}}`, 422, 619, "device_id"},
		{"rbd with a secret as it was answered", "POST", "/attach", `{"kind":"rbd","rbd":{"monitors":["10.0.0.1"],"pool":"p","image":"i","options":{"secret":"***"}}}`, 400, 400, "rbd.options.secret"},
		{"iscsi of no name", "POST", "/attach", `{"kind":"iscsi","iscsi":{"host":"h","target":"t","initiator":"iqn.2026-01.org.example:i"}}`, 400, 400, "iscsi.target"},
		{"state that cannot be created", "POST", "/container", `{"state":"paused","command":"/bin/true","mount":` + mount + `}`, 400, 400, "paused"},
		{"no part for the kind", "POST", "/attach", `{"kind":"loopback"}`, 400, 400, "loopback"},
		{"two parts", "POST", "/attach", `{"kind":"local","local":{"path":"/dev/null"},"loopback":{"path":"/x","base":"root"}}`, 400, 400, "loopback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			contentType := ""
			if c.body != "" {
				contentType = "application/json"
			}
			got, header, body := s.raw(t, c.method, c.path, contentType, c.body)
			var e models.Error
			if err := json.Unmarshal([]byte(body), &e); err != nil || e.Message == nil {
				t.Fatalf("%d %q is no error of the contract", got, body)
			}
			if got != c.status || int(e.Code) != c.code || !strings.Contains(*e.Message, c.message) {
				t.Errorf("got %d, code %d, %q; want %d, %d, and %q in the message", got, e.Code, *e.Message, c.status, c.code, c.message)
			}
			if ct := header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
				t.Errorf("content type %q", ct)
			}
		})
	}
	if left, _ := s.Mounts.ListMounts(mounts.NewListMountsParams()); len(left.Payload) != 0 {
		t.Errorf("refused requests have left mounts: %v", left.Payload)
	}
}

func TestTransport(t *testing.T) {
	s := start(t)
	if got, _, _ := s.raw(t, "POST", "/attach", "text/plain", `{}`); got != http.StatusUnsupportedMediaType {
		t.Errorf("a body that is not JSON: %d, want 415", got)
	}
	got, header, _ := s.raw(t, "PUT", "/attach", "application/json", `{}`)
	if got != http.StatusMethodNotAllowed || !strings.Contains(header.Get("Allow"), "POST") {
		t.Errorf("a wrong method: %d, Allow %q", got, header.Get("Allow"))
	}
	resp, err := http.Get(strings.TrimSuffix(s.url, "/imageapi/v1") + "/swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct {
		Swagger, BasePath string
		Definitions       map[string]any
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil || doc.BasePath != "/imageapi/v1" || doc.Definitions["container"] == nil {
		t.Errorf("swagger.json: %v %+v", err, doc)
	}
}

// What clients see as null.
func TestNulls(t *testing.T) {
	s, path := start(t), image(t)
	c := definition(path)
	c.State = "created"
	created, err := s.Containers.CreateContainer(containers.NewCreateContainerParams().WithContainer(c))
	if err != nil {
		t.Fatal(err)
	}
	_, _, body := s.raw(t, "GET", fmt.Sprintf("/container?id=%d", created.Payload.ID), "", "")
	for _, want := range []string{`"namespaces":null`, `"mount_options":null`, `"state":"created"`, `"readPartitions":false`} {
		if !strings.Contains(strings.ReplaceAll(body, ": ", ":"), want) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	if !strings.HasPrefix(strings.TrimSpace(body), "[") {
		t.Errorf("GET with an id is no list: %s", body)
	}
	exited := containers.NewSetContainerStateParams().WithID(ptr(int64(created.Payload.ID))).WithState("exited")
	if got, err := s.Containers.SetContainerState(exited); err != nil || got.Payload.State != "created" {
		t.Errorf("stopping what never ran: %v %v", got, err)
	}
	if _, err := s.Containers.DeleteContainer(containers.NewDeleteContainerParams().WithID(ptr(int64(created.Payload.ID)))); err != nil {
		t.Error(err)
	}
	nothingLeft(t, s)
}

func TestContainerConflicts(t *testing.T) {
	s, path := start(t), image(t)
	created, err := s.Containers.CreateContainer(containers.NewCreateContainerParams().WithContainer(definition(path)))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := s.Mounts.ListMounts(mounts.NewListMountsParams())
	if _, err := s.Containers.CreateContainer(containers.NewCreateContainerParams().WithContainer(definition(path))); status(t, err) != 409 {
		t.Errorf("a duplicate name: %v", err)
	}
	after, _ := s.Mounts.ListMounts(mounts.NewListMountsParams())
	if len(before.Payload) != len(after.Payload) {
		t.Errorf("a duplicate name has mounted something: %d, then %d mounts", len(before.Payload), len(after.Payload))
	}
	id := int64(created.Payload.ID)
	if _, err := s.Containers.DeleteContainer(containers.NewDeleteContainerParams().WithID(&id)); status(t, err) != 409 {
		t.Errorf("deleting what runs: %v", err)
	}
	if got, err := s.Containers.SetContainerState(containers.NewSetContainerStateParams().WithID(&id).WithState("running")); err != nil || got.Payload.State != "running" {
		t.Errorf("starting what runs: %v %v", got, err)
	}
	if _, err := s.Containers.DeleteContainer(containers.NewDeleteContainerParams().WithID(&id).WithForce(ptr(true))); err != nil {
		t.Errorf("deleting by force: %v", err)
	}
	nothingLeft(t, s)
}

func TestAttachAlone(t *testing.T) {
	s, path := start(t), image(t)
	a, err := s.Attachments.Attach(attachments.NewAttachParams().WithAttach(&models.Attach{Kind: "loopback",
		Loopback: &models.AttachLoopback{Path: &path, Base: ptr("root")}}))
	if err != nil {
		t.Fatal(err)
	}
	if a.Payload.DeviceFile == "" || a.Payload.Refs != 1 || a.Payload.ID != 1 {
		t.Errorf("%+v", a.Payload)
	}
	kind := "rbd"
	if list, err := s.Attachments.ListAttachments(attachments.NewListAttachmentsParams().WithKind(&kind)); err != nil || len(list.Payload) != 0 {
		t.Errorf("listing another kind: %v %v", list, err)
	}
	gone, err := s.Attachments.DeleteAttach(attachments.NewDeleteAttachParams().WithID(1).WithForce(ptr(true)))
	if err != nil || gone.Payload.ID != 1 {
		t.Errorf("DELETE answers the deleted object: %v %v", gone, err)
	}
}
