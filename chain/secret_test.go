package chain

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func iscsi() *models.Attach {
	return &models.Attach{Kind: "iscsi", Iscsi: &models.AttachIscsi{Host: str("h"), Target: str("iqn.t"), Initiator: str("iqn.i"),
		Chap:       &models.IscsiChap{User: str("me"), Secret: "hush"},
		MutualChap: &models.IscsiChap{User: str("you"), Secret: "hush"}}}
}

// buffer is a log that may be written from anywhere.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// No secret is in an answer, an event, the log or a file that others may read; it is in the records, which the drivers need it from.
func TestSecretsStayWithinTheRecords(t *testing.T) {
	n, dir, log := onNode(), runDir(t), &buffer{}
	cfg := storage(n)
	cfg.Log = logrus.New()
	cfg.Log.SetLevel(logrus.TraceLevel)
	cfg.Log.SetOutput(log)
	c := openWith(t, n, dir, cfg)
	var answers []any
	take := func(v any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, v)
	}
	dev, err := c.Attach(t.Context(), iscsi())
	take(dev, err)
	m := mounted(t, c, onDevice(rbd()))
	box := create(t, c, boxOn(onDevice(&models.Attach{ID: dev.ID})))
	answers = append(answers, m, box)
	n.failAt = n.calls + 1
	_, err = c.Attach(t.Context(), rbd())
	answers = append(answers, err.Error())
	list := func() {
		attachments, err := c.Attachments(nil, "")
		take(attachments, err)
		mounts, err := c.Mounts(nil, "")
		take(mounts, err)
		containers, err := c.Containers(nil, nil, "")
		take(containers, err)
	}
	list()
	found := map[string]bool{}
	walk(t, string(dir), func(path string, mode fs.FileMode, text string) {
		if found[path] = strings.Contains(text, "hush"); found[path] && mode.Perm()&0o077 != 0 {
			t.Errorf("%s is %s and holds a secret", path, mode)
		}
	})
	if !found[dir.Record(int64(dev.ID))] {
		t.Error("no record holds the secret: this test looks in the wrong place")
	}
	c.Close()
	c = openWith(t, n, dir, cfg)
	list()
	take(c.DeleteContainer(t.Context(), nil, str("a"), true))
	take(c.Unmount(t.Context(), int64(m.ID), false))
	take(c.Detach(t.Context(), int64(dev.ID), false))
	assertEmpty(t, n, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for e := range c.Events(ctx, new(int64), false) {
		answers = append(answers, e)
	}
	text, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hush") {
		t.Errorf("an answer or event holds a secret: %s", text)
	}
	if masked := strings.Count(string(text), `"secret":"***"`); masked < 8 {
		t.Errorf("%d masked secrets are shown: this test looks at too little", masked)
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("the log holds a secret: %s", log)
	}
}

func walk(t *testing.T, dir string, look func(path string, mode fs.FileMode, text string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, info.Mode(), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What an answer shows cannot be sent as a definition: its secrets are not in it.
func TestAMaskedSecretIsRefused(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	c := openWith(t, n, runDir(t), cfg)
	for field, spec := range map[string]*models.Attach{"rbd.options.secret": rbd(), "iscsi.chap.secret": iscsi()} {
		made, err := c.Attach(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		again := *made
		again.ID = 0
		_, err = c.Attach(t.Context(), &again)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), field) || !strings.Contains(fault.HintOf(err), "credential") {
			t.Errorf("%s: %v, hint %q", field, err, fault.HintOf(err))
		}
	}
	calls := n.calls
	for _, url := range []string{"https://***@h/i.sqsh", "https://h/i.sqsh?***"} {
		uri := &models.Mount{Kind: "uri", URI: &models.MountURI{URI: &url}}
		if err := checkMountSecrets(uri); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "uri.uri") {
			t.Errorf("%s: %v", url, err)
		}
	}
	masked := maskChunkfs(chunkfs().Chunkfs)
	if err := checkMountSecrets(&models.Mount{Chunkfs: masked}); !fault.Is(err, fault.Invalid) {
		t.Errorf("chunkfs: %v", err)
	}
	if n.calls != calls {
		t.Error("a driver was called")
	}
}
